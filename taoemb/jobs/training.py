"""A training run as a job: its arguments, the same in every place, and the place that the settings choose."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from taoemb.config import Config
from taoemb.errors import InputError
from taoemb.jobs.local import LocalProcesses
from taoemb.jobs.manifest import Manifest
from taoemb.jobs.trainjob import train_job
from taoemb.jobs.work import Job, Work, job_name, run_job

SUMMARY = "summary.json"
"""What a finished run leaves in its folder."""
_NEVER_SENT = "job."  # where a run happens does not make it another run


def training_work(objective: str, data: Path, out: Path, release: Path | None, config: Config) -> Work:
    """`python -m taoemb.training.<objective>` with its folders and with every setting that differs from its default.

    The settings travel as arguments: a cluster needs no file of this machine.
    """
    arguments = ["--data", str(data), "--out", str(out)]
    if release is not None:
        arguments += ["--release", str(release)]
    for key, value in sorted(_chosen(config, "")):
        if not key.startswith(_NEVER_SENT):
            arguments += ["--set", f"{key}={flow(value)}"]
    _need_absolute({"--data": data, "--out": out, "--release": release}, config)
    title = f"train {objective.replace('_', '-')}"
    return Work(title, job_name(objective, out), f"taoemb.training.{objective}", tuple(arguments), out)


def run_training(work: Work, config: Config, *, run: str = "", detach: bool = False) -> None:
    """Run it where `config.job` says and wait; `detach` returns once the cluster has it.

    Raises InputError or TaoembError with the job's reason; an interrupt stops it, checkpoint first.
    """
    if config.job.backend == "local":
        if detach:
            raise InputError("--detach: only a job on a cluster goes on alone; add --set job.backend=trainjob")
        _refuse_nodes(config)
        with _signals_interrupt():
            run_job(LocalProcesses(work.module, work.args, config.job.ranks or 1), work.title)
        return
    job = _on_cluster(work, config, run)
    if detach:
        job.submit()
        return
    run_job(job, work.title, retries=config.job.retries, backoff_s=config.job.backoff_s)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM, and a terminal that goes away, stop the ranks as Ctrl-C does: they would train on without a parent."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    earlier = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def render_training(work: Work, config: Config) -> Manifest:
    """The TrainJob that `run_training` would make; no cluster is asked."""
    return train_job(work, config.job, config.job.namespace or "default")


def _on_cluster(work: Work, config: Config, run: str) -> Job:
    from taoemb.jobs.cluster import ClusterJob
    from taoemb.serving.kube import connect, own_namespace

    objects = connect()
    manifest = train_job(work, config.job, config.job.namespace or own_namespace(), run)
    return ClusterJob(objects, manifest, config.job, work.out / SUMMARY)


def _need_absolute(paths: Mapping[str, Path | None], config: Config) -> None:
    """A job on a cluster sees the paths of its volumes, not this working folder."""
    for option, path in paths.items():
        if config.job.backend == "trainjob" and path is not None and not path.is_absolute():
            raise InputError(f"{option} {path}: job.backend is trainjob; give the absolute path on the job's volume")


def _refuse_nodes(config: Config) -> None:
    if config.job.nodes > 1:
        raise InputError(f"job.nodes is {config.job.nodes}: more than one machine needs --set job.backend=trainjob")


def _chosen(section: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every setting that was given, one by one, so that the others keep what a file in the job says."""
    plain = section.model_dump(mode="json")
    for name in section.model_fields_set:
        value = dict(section)[name]
        if isinstance(value, BaseModel) and value.model_fields_set:
            yield from _chosen(value, f"{prefix}{name}.")
        elif not isinstance(value, BaseModel) or type(section).model_fields[name].default is None:
            yield f"{prefix}{name}", {} if isinstance(value, BaseModel) else plain[name]


def flow(value: object) -> str:
    """A value as YAML on one line; `--set` reads it back."""
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()[1:-1]
