"""Asking an arm's query encoder for a vector: any replica of it, and only a reply of the arm's own release.

The reply's digest is compared here with the arm's, before anybody can search with the vector.
"""

import asyncio
import base64
import binascii
import itertools
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp
import numpy as np

from taoemb.hosting.trace import trace_headers
from taoemb.serving.gateway.rests import Rests
from taoemb.serving.traffic import RELEASE_HEADER, Arm

MODEL = "encoder"
KEEP_ALIVE_S = 3.0  # shorter than the five seconds after which uvicorn closes an idle connection
_log = logging.getLogger(__name__)
Reason = Literal[
    "unreachable", "timeout", "status", "digest", "malformed", "cooling", "busy", "unbound", "filter", "search"
]


class ArmFailure(Exception):
    """An arm could not answer; `reason` is the label it is counted under."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Reply:
    status: int
    release: str | None
    content: bytes


class EncoderClient:
    """Calls encoders over kept connections. A replica that failed rests for a moment, twice as long each time."""

    def __init__(
        self,
        timeout_s: float,
        connections: int,
        *,
        on_wrong_release: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_wrong_release` is called for each reply of another release than its arm's."""
        self._timeout_s, self._connections = timeout_s, connections
        self._on_wrong_release = on_wrong_release
        self._session: aiohttp.ClientSession | None = None
        self._rests = Rests(clock)
        self._turns = itertools.count()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def embed(self, arm: Arm, query: str, *, insist: bool = False) -> np.ndarray:
        """The query's vector (1, D) float32 from the first replica that answers as `arm.release`.

        Replicas take turns. Those that rest are asked only with `insist`, last, for an arm that nobody can stand in
        for. Raises ArmFailure with the last replica's reason.
        """
        body = json.dumps({"model": MODEL, "input": query, "encoding_format": "base64"}).encode()
        failure = ArmFailure("cooling", f"every encoder of release {arm.release[:16]} failed a moment ago")
        for url in self._order(arm, insist):
            try:
                vector = await self._ask(url, arm.release, body)
            except ArmFailure as error:
                failure = error
                self._note_failure(url, error)
            else:
                self._rests.worked(url)
                return vector
        raise failure

    def _order(self, arm: Arm, insist: bool) -> list[str]:
        turn = next(self._turns) % len(arm.urls) if arm.urls else 0
        urls = [*arm.urls[turn:], *arm.urls[:turn]]
        left_s = {url: self._rests.left_s(url) for url in urls}
        fresh = [url for url in urls if not left_s[url]]
        return fresh + sorted(set(urls) - set(fresh), key=left_s.__getitem__) if insist else fresh

    def _note_failure(self, url: str, failure: ArmFailure) -> None:
        if failure.reason == "digest":
            self._on_wrong_release()
        if self._rests.failed(url):
            _log.warning("%s", failure)

    async def _ask(self, url: str, release: str, body: bytes) -> np.ndarray:
        reply = await self._post(f"{url}/openai/v1/embeddings", body)
        if reply.status != 200:
            raise ArmFailure("status", f"{url} answered {reply.status}")
        if reply.release != release:
            found = (reply.release or "none")[:16]
            raise ArmFailure("digest", f"{url} answered as release {found}, not {release[:16]}")
        try:
            answer = json.loads(reply.content)
        except ValueError:
            raise ArmFailure("malformed", f"{url}: the reply is not JSON") from None
        return _read_vector(answer, release, url)

    async def _post(self, url: str, body: bytes) -> _Reply:
        """One request; once more when a kept connection turns out closed."""
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._send(url, body)
                except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                    return await self._send(url, body)
        except TimeoutError:
            raise ArmFailure("timeout", f"{url} did not answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ArmFailure("unreachable", f"{url}: {type(error).__name__}: {error}") from None

    async def _send(self, url: str, body: bytes) -> _Reply:
        if self._session is None:  # here, because it belongs to the running loop
            connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEP_ALIVE_S)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"content-type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=None),  # ours stands around the call
            )
        async with self._session.post(url, data=body, headers=trace_headers(), allow_redirects=False) as reply:
            return _Reply(reply.status, reply.headers.get(RELEASE_HEADER), await reply.read())


def _read_vector(answer: object, release: str, url: str) -> np.ndarray:
    """The vector (1, D) of an OpenAI embeddings reply in base64 (little-endian float32). Raises ArmFailure."""
    match answer:
        case {"data": [{"embedding": str(text)}], **rest}:
            pass
        case _:
            raise ArmFailure("malformed", f"{url}: not a reply with one base64 embedding")
    if isinstance(rest, Mapping) and rest.get("release", release) != release:
        raise ArmFailure("digest", f"{url}: its header says {release[:16]}, its body {str(rest['release'])[:16]}")
    try:
        vector = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (binascii.Error, ValueError):
        raise ArmFailure("malformed", f"{url}: the embedding is not base64 of float32") from None
    if not vector.size or not np.isfinite(vector).all() or not vector.any():
        raise ArmFailure("malformed", f"{url}: the embedding is empty, zero or not finite")
    return vector.astype(np.float32)[None]
