"""A stand-in for the v2beta1 REST API of Kubeflow Pipelines on loopback: it keeps what was posted."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse


@dataclass
class Cluster:
    """What the API was told."""

    url: str = ""
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    recurring: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    refuse: bool = False


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Serve the API on a free port for as long as the block runs."""
    state = Cluster()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*_get(state, urlparse(self.path)))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(*_post(state, urlparse(self.path).path, body))

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            state.tokens.add(self.headers.get("Authorization"))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _get(state: Cluster, url: Any) -> tuple[int, dict[str, Any]]:
    if url.path == "/apis/v2beta1/healthz":
        return 200, {"multi_user": False}
    if url.path == "/apis/v2beta1/experiments":
        name = json.loads(parse_qs(url.query)["filter"][0])["predicates"][0]["stringValue"]
        return 200, {"experiments": [state.experiments[name]]} if name in state.experiments else {}
    if url.path.startswith("/apis/v2beta1/runs/"):
        return 200, state.runs[int(url.path.rpartition("-")[2])]
    return 404, {"message": "not here"}


def _post(state: Cluster, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    if path == "/apis/v2beta1/experiments":
        name = body["display_name"]
        state.experiments[name] = {**body, "experiment_id": f"experiment-{len(state.experiments)}"}
        return 200, state.experiments[name]
    if path == "/apis/v2beta1/runs":
        if state.refuse:
            return 400, {"message": "the namespace has no quota left"}
        made = {"run_id": f"run-{len(state.runs)}", "state": "PENDING", "created_at": "2026-01-01T00:00:00Z"}
        state.runs.append({**body, **made})
        return 200, state.runs[-1]
    if path == "/apis/v2beta1/recurringruns":
        made = {"recurring_run_id": f"recurring-{len(state.recurring)}", "created_at": "2026-01-01T00:00:00Z"}
        state.recurring.append({**body, **made})
        return 200, state.recurring[-1]
    return 404, {"message": "not here"}
