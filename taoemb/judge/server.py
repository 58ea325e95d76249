"""A judge behind KServe's model server, in a plain process: health and metrics by KServe, chat completions by us.

KServe's own OpenAI module needs vllm; the routes here are added to its application before it starts, so the same client
talks to this server, to KServe's HuggingFace/vLLM runtime, and to any OpenAI-compatible endpoint.
"""

import logging
import os
import signal
import socket
import sys
import threading
from types import ModuleType

from taoemb.config import JudgeServerConfig
from taoemb.errors import InputError

GRACE_S = 30


def serve(
    model: str,
    *,
    port: int = 8081,
    host: str = "127.0.0.1",
    name: str = "judge",
    config: JudgeServerConfig | None = None,
    exit_with_parent: bool = False,
) -> None:
    """Serve the judge `model` (see :func:`taoemb.judge.backends.load_backend`) until SIGTERM or SIGINT.

    With `exit_with_parent` it also stops when its standard input ends. Raises InputError for a port in use or a bad
    model.
    """
    config = config or JudgeServerConfig()
    if exit_with_parent:
        threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    _check_port(host, port)
    from taoemb.judge.backends import load_backend

    backend = load_backend(model, config)
    kserve = import_kserve()
    from taoemb.judge.batcher import Batcher
    from taoemb.judge.kserve_parts import BoundServer, JudgeModel
    from taoemb.judge.openai_routes import JudgeRoutes

    batcher = Batcher(
        backend,
        batch_pairs=config.batch_pairs,
        wait_s=config.batch_wait_ms / 1000,
        queue_pairs=config.queue_pairs,
    )
    routes = JudgeRoutes(name, backend, batcher, int(config.max_body_mb * 1e6)).routes()
    kserve.model_server.app.router.routes.extend(routes)
    server = BoundServer(host, port, GRACE_S)
    for noisy in ("kserve.trace", "uvicorn.access"):  # a line a request
        logging.getLogger(noisy).setLevel(logging.WARNING)
    server.start([JudgeModel(name)])


def import_kserve() -> ModuleType:
    """The kserve package; while it is imported it reads the command line, which is ours and not its own."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        import kserve
        import kserve.model_server
    finally:
        sys.argv = arguments
    return kserve


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"--host {host} --port {port}: {error.strerror or error}; choose another") from None


def _stop_at_end_of_input() -> None:
    """Whoever started this process holds the other end of standard input, and may die without a word."""
    while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)
