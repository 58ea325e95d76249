"""Encoders and a judge of a simulated rollout: real HTTP servers on loopback that can be made to go away.

The encoders speak the wire contract of `taoemb serve encoder` (OpenAI embeddings, the digest in header and body).
"""

import base64
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from taoemb.errors import TaoembError
from taoemb.serving.traffic import RELEASE_HEADER

_START_S = 30.0
_STOP_S = 10.0
_POLL_S = 0.005


class LoopbackServer:
    """An ASGI application on a port of its own, in a thread; `up` and `down` as often as wanted (a context manager)."""

    def __init__(self, application: Starlette) -> None:
        self._application = application
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Base URL; the same after each restart."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self._server is not None

    def up(self) -> None:
        """Answer from now on. Raises TaoembError when the server does not start."""
        if self._server is not None:
            return
        config = uvicorn.Config(
            self._application,
            host="127.0.0.1",
            port=self._port,
            log_level="error",
            timeout_graceful_shutdown=1,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name=f"server-{self._port}", daemon=True)
        thread.start()
        deadline = time.monotonic() + _START_S
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if not server.started:
            raise TaoembError(f"a simulated server could not listen on port {self._port}; run again")
        self._server, self._thread = server, thread

    def down(self) -> None:
        """Refuse connections from now on."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(_STOP_S)
        self._server, self._thread = None, None

    def __enter__(self) -> "LoopbackServer":
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()


def encoder_application(
    release: str, row_of: Mapping[str, int], vectors_QD: np.ndarray, wrong_share: Callable[[], float], seed: int
) -> Starlette:
    """A simulated encoder: answers a query with its own row of `vectors_QD`, or with another's.

    `wrong_share` is asked at each search for the share that gets another query's vector just then.
    """
    rng = random.Random(seed)
    encoded = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors_QD]
    header = {RELEASE_HEADER: release}

    def pick(text: str) -> str:
        row = row_of.get(text, 0)  # any vector will do for a text that nobody searches: a digest is being read back
        if rng.random() < wrong_share():
            row = (row + rng.randrange(1, len(encoded))) % len(encoded)
        return encoded[row]

    async def embeddings(request: Request) -> JSONResponse:
        body = await request.json()
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = [{"object": "embedding", "index": i, "embedding": pick(text)} for i, text in enumerate(texts)]
        answer = {"object": "list", "model": "encoder", "data": data, "release": release}
        return JSONResponse(answer, headers=header)

    async def ready(request: Request) -> JSONResponse:
        return JSONResponse({"ready": True}, headers=header)

    return Starlette(
        routes=[
            Route("/openai/v1/embeddings", embeddings, methods=["POST"]),
            Route("/v2/health/ready", ready),
            Route("/v2/models/encoder", ready),
        ]
    )
