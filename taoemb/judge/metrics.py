"""Prometheus metrics of judging; one set a registry, shared by all clients of a process and told apart by label."""

from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_MASSES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


@dataclass(frozen=True)
class JudgeMetrics:
    """Counters of a judge client; the label `judge` is its URL."""

    requests: Counter
    pairs: Counter
    unanswered: Counter
    latency: Histogram
    label_mass: Histogram
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
        label_mass=Histogram(
            "taoemb_judge_label_mass",
            "Part of the first token's probability that the labels hold, of each answer that could be read.",
            ["judge"],
            buckets=_MASSES,
            registry=registry,
        ),
        breaker=Gauge(
            "taoemb_judge_breaker_state",
            "Circuit breaker: 0 closed, 1 half-open, 2 open.",
            ["judge"],
            registry=registry,
        ),
    )
