"""Send a compiled pipeline to a Kubeflow Pipelines cluster (the v2beta1 REST API, through kfp's own client)."""

import contextlib
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from taoemb.errors import InputError, TaoembError
from taoemb.jobs.pipelines import Pipeline, require_arguments
from taoemb.secret_file import read_secret

REACH_S = 10.0


@dataclass(frozen=True)
class Submitted:
    """A run that the cluster accepted."""

    run_id: str
    run_name: str
    experiment: str
    url: str


def submit(
    pipeline: Pipeline,
    arguments: Mapping[str, Any],
    host: str,
    *,
    experiment: str = "taoemb",
    run_name: str = "",
    namespace: str = "",
    token_file: Path | None = None,
) -> Submitted:
    """Create a run of `pipeline` in `experiment` (made when absent) on the cluster at `host` (http(s)://…).

    `namespace` is for multi-user clusters; `token_file` holds a bearer token. Raises InputError for a bad host or token
    file, TaoembError when the cluster is away or refuses.
    """
    require_arguments(pipeline, arguments)
    host = host.rstrip("/")
    if not host.startswith(("http://", "https://")):
        raise InputError(f"--host {host}: expected http://… or https://…, the address of the Kubeflow Pipelines API")
    token = None if token_file is None else read_secret(token_file, "--token-file")
    _reach(host, token)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        import kfp_server_api
        import urllib3
        from kfp.client import Client

        try:
            run = Client(host=host, existing_token=token).create_run_from_pipeline_package(
                str(pipeline.path),
                arguments=dict(arguments),
                run_name=run_name or None,
                experiment_name=experiment,
                namespace=namespace or None,
            )
        except kfp_server_api.ApiException as error:
            raise TaoembError(f"{host} refused the run: {error.status} {error.reason}: {_said(error.body)}") from None
        except urllib3.exceptions.HTTPError as error:
            raise TaoembError(f"{host}: lost the connection: {error}") from None
    name = run.run_info.display_name or run_name
    return Submitted(run.run_id, name, experiment, f"{host}/#/runs/details/{run.run_id}")


def _reach(host: str, token: str | None) -> None:
    """kfp's client would retry for half a minute before it gives up on a wrong address."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"{host}/apis/v2beta1/healthz", headers=headers, timeout=REACH_S, follow_redirects=True)
    except httpx.HTTPError as error:
        raise TaoembError(f"--host {host}: cannot be reached ({error or type(error).__name__})") from None
    if answer.status_code != 200:
        raise TaoembError(f"--host {host}: no Kubeflow Pipelines API there (healthz answered {answer.status_code})")


def _said(body: str | bytes | None) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or "no reason given"
    return " ".join(text.split())[:300]
