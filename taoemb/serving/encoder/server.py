"""A release's query encoder behind KServe's model server, in a plain process.

Every reply carries the release's digest, also an error, so that whoever searches with the vectors knows which
collection they belong to.
"""

from collections.abc import Callable
from pathlib import Path

from taoemb.config import EncoderConfig, EncoderServerConfig, LogsConfig
from taoemb.encoder.manifest import read_manifest
from taoemb.hosting.entry import check_port, import_kserve, stop_with_parent
from taoemb.hosting.logs import configure_logs
from taoemb.hosting.pauses import spare_what_stays
from taoemb.serving.traffic import RELEASE_HEADER


def serve_encoder(
    release: Path,
    *,
    port: int = 8090,
    host: str = "127.0.0.1",
    name: str = "encoder",
    config: EncoderServerConfig | None = None,
    encoder: EncoderConfig | None = None,
    logs: LogsConfig | None = None,
    exit_with_parent: bool = False,
    on_ready: Callable[[str], None] = lambda digest: None,
) -> None:
    """Serve the query encoder of the release folder until SIGTERM or SIGINT.

    `encoder` adds what is no part of a release (attention, compiled layers, remote code). `on_ready` is called with the
    release's digest once requests are taken: the model is checked and warm by then. With `exit_with_parent` the server
    also stops when its standard input ends. Raises InputError for a port in use, or a release, backend or precision
    that can't be served.
    """
    config = config or EncoderServerConfig()
    logs = logs or LogsConfig()
    configure_logs(logs.format, logs.level)
    if exit_with_parent:
        stop_with_parent()
    check_port(host, port)
    read_manifest(release)  # what is no release is told before anything heavy is imported
    import_kserve()
    from prometheus_client import REGISTRY

    from taoemb.hosting.server import BoundServer
    from taoemb.serving.encoder.batches import encoder_batcher
    from taoemb.serving.encoder.kserve import EncoderModel
    from taoemb.serving.encoder.load import load_query_model
    from taoemb.serving.encoder.metrics import encoder_metrics
    from taoemb.serving.encoder.protocols import Served
    from taoemb.serving.encoder.routes import EncoderRoutes

    model = load_query_model(release, config, encoder)
    metrics = encoder_metrics(REGISTRY)
    metrics.release.info({"digest": model.digest, "backend": config.backend, "precision": config.precision})
    metrics.min_cosine.set(model.min_cosine)
    routes = EncoderRoutes(Served(name, model.digest, model.dimension), encoder_batcher(model, config), config)

    def ready() -> None:
        spare_what_stays()
        on_ready(model.digest)

    server = BoundServer(
        host,
        port,
        drain_s=config.drain_s,
        linger_s=config.linger_s,
        headers=[(RELEASE_HEADER, model.digest)],
        on_ready=ready,
    )
    server.serve(EncoderModel(name, model.dimension), routes.routes())
