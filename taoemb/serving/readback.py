"""Reads a release's digest back from the encoders that serve it: what they answer with is what counts, not a spec."""

import ssl
from functools import lru_cache
from typing import Any

import httpx

from taoemb.errors import TaoembError
from taoemb.serving.traffic import RELEASE_HEADER

_TEXT = "read back"


def read_release(base_url: str, *, model: str = "encoder", timeout_s: float = 3.0, replicas: int = 1) -> str:
    """Digest that the encoders at `base_url` answer with, from the header and the body of a real embedding.

    Asks `replicas` times, each over a connection of its own, so that a balancer can pick several replicas. Raises
    TaoembError with the reason when one does not answer, or two don't agree.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(timeout=timeout_s, trust_env=False, limits=limits, verify=_certificates()) as client:
        found = {_ask(client, base_url, model) for _ in range(replicas)}
    if len(found) > 1:
        raise TaoembError(f"{base_url}: its replicas serve different releases ({', '.join(sorted(found))})")
    return found.pop()


def _ask(client: httpx.Client, base_url: str, model: str) -> str:
    url = f"{base_url.rstrip('/')}/openai/v1/embeddings"
    body = {"model": model, "input": _TEXT, "encoding_format": "base64"}
    try:
        answer = client.post(url, json=body)
        answer.raise_for_status()
        tree: Any = answer.json()
    except httpx.HTTPStatusError as refusal:
        raise TaoembError(f"{url}: HTTP {refusal.response.status_code}") from None
    except (httpx.HTTPError, ValueError) as error:
        raise TaoembError(f"{url}: {str(error) or type(error).__name__}") from None
    digest = answer.headers.get(RELEASE_HEADER, "")
    if not digest or not isinstance(tree, dict) or tree.get("release") != digest:
        raise TaoembError(f"{url}: the reply names no release; is it `taoemb serve encoder`?")
    return digest


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """Read once: a client of its own would read the certificates of the machine each time."""
    return ssl.create_default_context()
