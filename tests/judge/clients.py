"""Judge clients that lose patience fast, and pairs to ask them about."""

from prometheus_client import CollectorRegistry

from taoemb.config import JudgeConfig
from taoemb.judge.client import JudgeClient, RetryPolicy

FAST = RetryPolicy(
    3, wait_initial=0.01, wait_max=0.02, wait_jitter=0.01, breaker_failures=3, breaker_cooldown=(0.02, 0.05)
)


def client(url: str, registry: CollectorRegistry | None = None, **settings: object) -> JudgeClient:
    config = JudgeConfig.model_validate({"url": url, "wait_s": 5, "timeout_s": 5} | settings)
    return JudgeClient(config, registry=registry or CollectorRegistry(), policy=FAST)


def items(*titles: str) -> list[dict]:
    return [{"title": title} for title in titles]


def numbered(n: int) -> tuple[list[str], list[dict]]:
    return [f"query {i}" for i in range(n)], items(*(f"item {i}" for i in range(n)))


def by_title(query: str, item: str) -> tuple[float, ...]:
    """A grade that tells pairs apart."""
    share = int(item.split()[-1]) / 1000
    return (1 - share, 0.0, 0.0, share)
