"""What a controller says of itself over HTTP: alive, ready, and numbers for Prometheus."""

import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest

from taoemb.errors import InputError
from taoemb.rollout.state import Phase

_CHECKS_KEPT = timedelta(hours=1)  # an alert on an ended rollout has been seen by then


class Health:
    """What the controller tells it and what it answers."""

    def __init__(self, stale_after_s: float) -> None:
        """A controller that has not swept for `stale_after_s` is not alive any more."""
        self._stale_after_s = stale_after_s
        self._swept_at = time.monotonic()
        self._ready = False
        self._registry = CollectorRegistry()
        self._leading = Gauge("taoemb_rollout_controller_leading", "1 while it leads.", registry=self._registry)
        self._phases = Gauge(
            "taoemb_rollouts", "EncoderRollouts by phase, as the leader sees them.", ["phase"], registry=self._registry
        )
        self._checks = Gauge(
            "taoemb_rollout_check",
            "1: what a check of the last verdict on an EncoderRollout points to; for an hour after its last look.",
            ["rollout_namespace", "rollout", "check", "points_to"],
            registry=self._registry,
        )
        self._degraded = Gauge(
            "taoemb_rollout_degraded",
            "1 while the condition Degraded of an EncoderRollout is True: ticks or looks fail.",
            ["rollout_namespace", "rollout"],
            registry=self._registry,
        )
        self._ticks = Counter(
            "taoemb_rollout_controller_ticks", "Ticks of an EncoderRollout.", ["result"], registry=self._registry
        )
        for result in ("ok", "failed"):
            self._ticks.labels(result)  # a counter that begins above 0 has not increased for Prometheus

    def swept(self, leading: bool) -> None:
        """A sweep began."""
        self._swept_at = time.monotonic()
        self._leading.set(leading)
        if not leading:
            self._degraded.clear()
        self._ready = self._ready or not leading

    def listed(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        """The API server listed these EncoderRollouts."""
        self._ready = True
        found = Tally(str(body.get("status", {}).get("phase", "Pending")) for body in bodies)
        for phase in get_args(Phase):
            self._phases.labels(phase).set(found[phase])
        self._degraded.clear()
        for body in bodies:
            conditions = body.get("status", {}).get("conditions", ())
            failing = any(one["type"] == "Degraded" and one["status"] == "True" for one in conditions)
            self._degraded.labels(body["metadata"]["namespace"], body["metadata"]["name"]).set(failing)
        self._checks.clear()
        for body in filter(_looked_at_lately, bodies):
            name = body["metadata"]["namespace"], body["metadata"]["name"]
            for reason in body.get("status", {}).get("reasons", ()):
                self._checks.labels(*name, reason["check"], reason["pointsTo"]).set(1)

    def ticked(self, worked: bool) -> None:
        """One EncoderRollout was looked at."""
        self._ticks.labels("ok" if worked else "failed").inc()

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body of a request."""
        if path == "/metrics":
            # The process's own registry holds what its judge clients count.
            return 200, generate_latest(self._registry) + generate_latest(REGISTRY)
        if path == "/healthz":
            silent_s = time.monotonic() - self._swept_at
            return (200, b"ok") if silent_s < self._stale_after_s else (503, b"no sweep for %d s" % silent_s)
        if path == "/readyz":
            return (200, b"ok") if self._ready else (503, b"nothing listed yet")
        return 404, b"there are /healthz, /readyz and /metrics"


def _looked_at_lately(body: Mapping[str, Any]) -> bool:
    last = body.get("status", {}).get("lastLook")
    return last is not None and datetime.now(UTC) - datetime.fromisoformat(last) < _CHECKS_KEPT


@contextmanager
def serve_health(health: Health, host: str, port: int) -> Iterator[int]:
    """Serve it for as long as the block runs; gives the port. Raises InputError for one in use."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = health.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes are not news."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise InputError(f"controller.host {host}, controller.port {port}: {error.strerror or error}") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), name="health", daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
