"""Prometheus metrics of a batching queue, under the names of the server that it feeds."""

from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


@dataclass(frozen=True)
class BatchMetrics:
    """What a queue says of itself beside KServe's own metrics."""

    done: Counter
    waiting: Gauge
    wait_seconds: Histogram
    pass_size: Histogram
    pass_seconds: Histogram


@lru_cache(maxsize=64)
def batch_metrics(prefix: str, unit: str, registry: CollectorRegistry) -> BatchMetrics:
    """The metrics `{prefix}_…` on `registry`, made at the first call; `unit` is what a request is counted in."""
    return BatchMetrics(
        done=Counter(f"{prefix}_{unit}", f"{unit.capitalize()} that went through the model.", registry=registry),
        waiting=Gauge(f"{prefix}_waiting_{unit}", f"{unit.capitalize()} in the queue.", registry=registry),
        wait_seconds=Histogram(
            f"{prefix}_wait_seconds", "Time of a request in the queue.", buckets=_SECONDS, registry=registry
        ),
        pass_size=Histogram(
            f"{prefix}_pass_{unit}",
            f"{unit.capitalize()} in one pass of the model over the queue.",
            buckets=[2**i for i in range(12)],
            registry=registry,
        ),
        pass_seconds=Histogram(f"{prefix}_pass_seconds", "Time of one pass.", buckets=_SECONDS, registry=registry),
    )
