"""The processes of the search gateway: a supervisor that holds the port, and workers that come and go behind it.

SIGHUP replaces the workers one by one (a new one serves before the old one leaves) and loses no search; SIGTERM ends
them after what is under way.
"""

import math
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from taoemb.config import EventsConfig, GatewayConfig, KServeConfig, LogsConfig, MilvusConfig, share_metrics
from taoemb.errors import InputError, TaoembError
from taoemb.hosting.entry import check_port, stop_with_parent
from taoemb.hosting.logs import log_config
from taoemb.plain import keep_secrets_out_of_logs
from taoemb.retrieval.address import check_address, is_lite
from taoemb.serving.events.database import database_url, open_engine
from taoemb.serving.gateway.page_ids import PageIds, key_file
from taoemb.serving.gateway.traffic_watch import check_source

if TYPE_CHECKING:
    from fastapi import FastAPI

    from taoemb.serving.gateway.record import Rows
    from taoemb.serving.gateway.search_pool import Store

KEEP_ALIVE_S = 75  # longer than a load balancer keeps a connection, so that it closes first
LINGER_S = 1.0
START_S = 120  # a worker imports for seconds where cores are few
_CLOSE = (b"connection", b"close")


def open_milvus(config: MilvusConfig) -> "Store":
    """Milvus or Milvus Lite."""
    from taoemb.retrieval.milvus import MilvusStore

    return MilvusStore(config)


def open_recorder(config: EventsConfig) -> "Rows":
    """The events database behind its spool."""
    from taoemb.serving.events.writer import Recorder

    return Recorder(config)


@dataclass(frozen=True)
class GatewayApp:
    """Makes the application in a worker; travels there from the supervisor."""

    gateway: GatewayConfig
    milvus: MilvusConfig
    events: EventsConfig
    metrics: Path | None = None
    """Folder that the workers share their metrics in."""
    open_store: Callable[[MilvusConfig], "Store"] = open_milvus
    open_rows: Callable[[EventsConfig], "Rows"] = open_recorder
    kserve: KServeConfig | None = None
    """Where encoders answer when the arms stand in an InferenceService."""
    logs: LogsConfig = field(default_factory=LogsConfig)

    def __call__(self) -> "FastAPI":
        from prometheus_client import REGISTRY, CollectorRegistry

        from taoemb.serving.gateway.app import create_app

        keep_secrets_out_of_logs()
        threading.Thread(target=_stop_with_supervisor, daemon=True).start()
        exposed = REGISTRY
        if self.metrics is not None:
            from prometheus_client.multiprocess import MultiProcessCollector

            exposed = CollectorRegistry()
            MultiProcessCollector(exposed, path=str(self.metrics))
        return create_app(
            self.gateway,
            lambda: self.open_store(self.milvus),
            lambda: self.open_rows(self.events),
            PageIds(key_file(self.gateway.page_key_file, self.events.spool), self.gateway.event_age_s),
            exposed,
            self.kserve,
        )


class DrainingProtocol(HttpToolsProtocol):
    """A connection that leaves politely: told to end, it answers one more request, saying that it closes.

    uvicorn's own closes an idle connection at once, also when a request is already on its way.
    """

    def shutdown(self) -> None:
        """Called once a connection when the worker stops."""
        self.app_state["draining"] = True
        if _CLOSE not in self.server_state.default_headers:
            self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        if self._is_idle():
            self.loop.call_later(LINGER_S, self._close_if_idle)
        else:
            super().shutdown()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()


def serve(app: GatewayApp, *, port: int = 8080, host: str = "127.0.0.1", exit_with_parent: bool = False) -> None:
    """Serve searches until SIGTERM or SIGINT.

    With `exit_with_parent` it also stops when its standard input ends. Raises InputError for settings that can't work,
    TaoembError when a worker does not start.
    """
    if exit_with_parent:
        stop_with_parent()
    _check(app)
    check_port(host, port)
    workers = app.gateway.workers
    with tempfile.TemporaryDirectory(prefix="taoemb-gateway-") as folder:
        if workers > 1:
            share_metrics(Path(folder))
            app = replace(app, metrics=Path(folder))
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            factory=True,
            host=host,
            port=port,
            workers=workers,
            http=DrainingProtocol,
            lifespan="on",
            access_log=False,
            log_config=log_config(app.logs.format, app.logs.level),
            server_header=False,
            proxy_headers=False,  # gateway.trusted_proxies says whom to believe
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(app.gateway.drain_s),
            timeout_worker_healthcheck=START_S,
        )
        with config.bind_socket() as listener:
            supervisor = Multiprocess(config, sockets=[listener])
            supervisor.run()
    if any(process.exitcode == uvicorn.config.STARTUP_FAILURE for process in supervisor.processes):
        raise TaoembError("a worker of the gateway could not start; its log above says why")


def _check(app: GatewayApp) -> None:
    check_address(app.milvus)
    if app.gateway.workers > 1 and is_lite(app.milvus):
        raise InputError(
            f"gateway.workers {app.gateway.workers}: the Milvus Lite file {app.milvus.uri} serves one process; "
            f"use gateway.workers=1 or a Milvus server"
        )
    check_source(app.gateway.traffic)
    open_engine(database_url(app.events), timeout_s=app.events.timeout_s).dispose()
    for name, file in (
        ("tester_token_file", app.gateway.tester_token_file),
        ("operator_token_file", app.gateway.operator_token_file),
    ):
        if file is not None and not (file.is_file() and os.access(file, os.R_OK)):
            raise InputError(f"gateway.{name} {file}: no such file, or it may not be read")
    PageIds(key_file(app.gateway.page_key_file, app.events.spool), app.gateway.event_age_s)


def _stop_with_supervisor() -> None:
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)
