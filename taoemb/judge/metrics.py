"""Prometheus metrics of judging; one set a registry, shared by all clients of a process and told apart by label."""

from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


@dataclass(frozen=True)
class JudgeMetrics:
    """Counters of a judge client; the label `judge` is its URL."""

    requests: Counter
    pairs: Counter
    unanswered: Counter
    latency: Histogram
    breaker: Gauge


@lru_cache(maxsize=64)
def judge_metrics(registry: CollectorRegistry) -> JudgeMetrics:
    """The metrics on `registry`, made at the first call."""
    return JudgeMetrics(
        requests=Counter(
            "taoemb_judge_requests",
            "HTTP requests by result (a status, or error).",
            ["judge", "result"],
            registry=registry,
        ),
        pairs=Counter(
            "taoemb_judge_pairs",
            "Pairs by outcome: cached, asked or unanswered.",
            ["judge", "outcome"],
            registry=registry,
        ),
        unanswered=Counter(
            "taoemb_judge_unanswered",
            "Unanswered pairs by reason: malformed answer, refused request, retries used up.",
            ["judge", "reason"],
            registry=registry,
        ),
        latency=Histogram(
            "taoemb_judge_request_seconds", "Time of one HTTP request.", ["judge"], buckets=_SECONDS, registry=registry
        ),
        breaker=Gauge(
            "taoemb_judge_breaker_state",
            "Circuit breaker: 0 closed, 1 half-open, 2 open.",
            ["judge"],
            registry=registry,
        ),
    )


@dataclass(frozen=True)
class ServerMetrics:
    """What a judge server says of itself beside KServe's own metrics."""

    pairs: Counter
    waiting: Gauge
    pass_pairs: Histogram
    pass_seconds: Histogram


@lru_cache(maxsize=64)
def server_metrics(registry: CollectorRegistry) -> ServerMetrics:
    """The metrics on `registry`, made at the first call."""
    return ServerMetrics(
        pairs=Counter("taoemb_judge_server_pairs", "Pairs judged.", registry=registry),
        waiting=Gauge("taoemb_judge_server_waiting_pairs", "Pairs in the queue.", registry=registry),
        pass_pairs=Histogram(
            "taoemb_judge_server_pass_pairs",
            "Pairs in one pass of the model over the queue.",
            buckets=[2**i for i in range(12)],
            registry=registry,
        ),
        pass_seconds=Histogram(
            "taoemb_judge_server_pass_seconds", "Time of one pass.", buckets=_SECONDS, registry=registry
        ),
    )
