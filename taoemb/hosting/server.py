"""KServe's model server bound to one address, with a drain that loses no request.

Import it after :func:`taoemb.hosting.entry.import_kserve`: KServe reads the command line.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

import kserve
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

_POLL_S = 0.02


async def _refuse(request: Request) -> Response:
    return JSONResponse({"error": "the model of this server can't be changed"}, 403)


# KServe lets whoever asks unload the model.
_REFUSED = [Route(f"/v2/repository/models/{{model}}/{verb}", _refuse, methods=["POST"]) for verb in ("load", "unload")]


class BoundServer(kserve.ModelServer):
    """KServe's model server over HTTP, on one address instead of all interfaces.

    After SIGTERM it is not ready any more, goes on for `linger_s` so that load balancers see it, and then finishes
    what is under way within `drain_s`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        drain_s: float,
        linger_s: float = 0.0,
        headers: Sequence[tuple[str, str]] = (),
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`headers` go with every reply; `on_ready` is called once requests are taken."""
        super().__init__(http_port=port, enable_grpc=False, enable_latency_logging=False, grace_period=drain_s)
        self._host, self._linger_s, self._headers, self._on_ready = host, linger_s, headers, on_ready

    def serve(self, model: kserve.Model, routes: Sequence[BaseRoute]) -> None:
        """Serve `model` and `routes`, which win over KServe's own, until SIGTERM or SIGINT."""
        ready = Route("/v2/health/ready", self._ready, methods=["GET"])
        kserve.model_server.app.router.routes.extend([*routes, ready, *_REFUSED])
        for noisy in ("kserve.trace", "uvicorn.access"):  # a line a request
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self.start([model])

    def register_signal_handler(self) -> None:
        """Also prepares the HTTP server: start() has made it and calls this before it runs it."""
        rest = self._rest_server
        rest.config.host = self._host
        rest.config.headers.extend(self._headers)
        rest._server = _DrainingServer(rest.config, self._linger_s, self._on_ready, self._leave)
        super().register_signal_handler()

    async def _ready(self, request: Request) -> Response:
        """KServe's own says ready whatever its models say."""
        models = self.registered_models.get_models().values()
        ready = bool(models) and all([await model.healthy() for model in models])
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    def _leave(self) -> None:
        for model in self.registered_models.get_models().values():
            model.stop()


class _DrainingServer(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, linger_s: float, on_ready: Callable[[], None], on_leave: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._linger_s, self._on_ready, self._on_leave = linger_s, on_ready, on_leave

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say not ready and let clients go one reply at a time; then close."""
        self._on_leave()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        loop = asyncio.get_running_loop()
        end = loop.time() + self._linger_s
        while loop.time() < end and not self.force_exit:
            await asyncio.sleep(_POLL_S)
        await super().shutdown(sockets)
