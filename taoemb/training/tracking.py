"""Where a run's numbers go: JSON lines always; TensorBoard, MLflow and Prometheus by setting."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Protocol

from taoemb.config import EngineConfig
from taoemb.errors import InputError

Metrics = Mapping[str, float]


class Tracker(Protocol):
    """Takes the numbers of a step."""

    def record(self, step: int, metrics: Metrics) -> None:
        """Write one record."""


class JsonLines:
    """One JSON object a step, flushed, so that a killed run has all it did."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def record(self, step: int, metrics: Metrics) -> None:
        """Append one line."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()


def drop_records_from(path: Path, step: int) -> None:
    """Forget records that a resumed run will write again (steps ≥ `step`, and a half-written last line)."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n") and json.loads(line)["step"] < step:
            kept.append(line)
    path.write_text("".join(kept), encoding="utf-8")


class _TensorBoard:
    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step)

    def record(self, step: int, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, uri: str | None, name: str) -> None:
        import mlflow

        self._mlflow = mlflow
        if uri is not None:
            mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("taoemb")
        mlflow.start_run(run_name=name)

    def record(self, step: int, metrics: Metrics) -> None:
        self._mlflow.log_metrics({name.replace("@", "_at_"): value for name, value in metrics.items()}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class Exposed:
    """The last step's numbers for Prometheus to scrape, for as long as the run goes on."""

    def __init__(self, host: str, port: int) -> None:
        """Raises InputError when nothing can listen there."""
        from prometheus_client import CollectorRegistry, Gauge, start_http_server

        self.registry = CollectorRegistry()
        self._step = Gauge("taoemb_training_step", "The last step.", registry=self.registry)
        self._metric = Gauge(
            "taoemb_training_metric", "Its numbers, by their name in metrics.jsonl.", ["name"], registry=self.registry
        )
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise InputError(
                f"engine.metrics_host {host}, engine.metrics_port {port}: {error.strerror or error}; choose another"
            ) from None
        self.port = self._server.server_port

    def record(self, step: int, metrics: Metrics) -> None:
        """Show these instead of the last ones."""
        self._step.set(step)
        for name, value in metrics.items():
            self._metric.labels(name).set(value)

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Trackers:
    """All trackers of a run as one."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    def record(self, step: int, metrics: Metrics) -> None:
        """Give the record to every tracker."""
        for tracker in self._trackers:
            tracker.record(step, metrics)


@contextmanager
def open_trackers(root: Path, config: EngineConfig, first_step: int, *, main: bool) -> Iterator[Trackers]:
    """Open the run's trackers on the main rank; other ranks get none."""
    with ExitStack() as stack:
        if not main:
            yield Trackers([])
            return
        drop_records_from(root / "metrics.jsonl", first_step)
        file = stack.enter_context((root / "metrics.jsonl").open("a", encoding="utf-8"))
        trackers: list[Tracker] = [JsonLines(file)]
        if "tensorboard" in config.trackers:
            board = _TensorBoard(root / "tensorboard", first_step)
            stack.callback(board.close)
            trackers.append(board)
        if "mlflow" in config.trackers:
            run = _MLflow(config.mlflow_uri, root.name)
            stack.callback(run.close)
            trackers.append(run)
        if "prometheus" in config.trackers:
            exposed = Exposed(config.metrics_host, config.metrics_port)
            stack.callback(exposed.close)
            trackers.append(exposed)
        yield Trackers(trackers)
