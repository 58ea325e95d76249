"""A judge behind KServe's model server, in a plain process: health and metrics by KServe, chat completions by us.

KServe's own OpenAI module needs vllm; the routes here are added to its application before it starts, so the same client
talks to this server, to KServe's HuggingFace/vLLM runtime, and to any OpenAI-compatible endpoint.
"""

from taoemb.config import JudgeServerConfig, LogsConfig
from taoemb.hosting.entry import check_port, import_kserve, stop_with_parent
from taoemb.hosting.logs import configure_logs

DRAIN_S = 30


def serve(
    model: str,
    *,
    port: int = 8081,
    host: str = "127.0.0.1",
    name: str = "judge",
    config: JudgeServerConfig | None = None,
    logs: LogsConfig | None = None,
    exit_with_parent: bool = False,
) -> None:
    """Serve the judge `model` (see :func:`taoemb.judge.backends.load_backend`) until SIGTERM or SIGINT.

    With `exit_with_parent` it also stops when its standard input ends. Raises InputError for a port in use or a bad
    model.
    """
    config = config or JudgeServerConfig()
    logs = logs or LogsConfig()
    configure_logs(logs.format, logs.level)
    if exit_with_parent:
        stop_with_parent()
    check_port(host, port)
    from taoemb.judge.backends import load_backend

    backend = load_backend(model, config)
    kserve = import_kserve()
    from taoemb.hosting.server import BoundServer
    from taoemb.judge.batcher import judge_batcher
    from taoemb.judge.openai_routes import JudgeRoutes

    batcher = judge_batcher(
        backend,
        batch_pairs=config.batch_pairs,
        wait_s=config.batch_wait_ms / 1000,
        queue_pairs=config.queue_pairs,
    )
    routes = JudgeRoutes(name, backend, batcher, int(config.max_body_mb * 1e6)).routes()
    judge = kserve.Model(name)  # what KServe's health and model routes know of it
    judge.load()
    BoundServer(host, port, drain_s=DRAIN_S).serve(judge, routes)
