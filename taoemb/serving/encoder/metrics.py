"""What the encoder server says of itself beside KServe's own metrics and those of its queue."""

from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

PREFIX = "taoemb_encoder"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


@dataclass(frozen=True)
class EncoderMetrics:
    """`protocol` is openai, v1 or v2."""

    requests: Counter
    request_seconds: Histogram
    tokens: Counter
    padding: Counter
    release: Info
    min_cosine: Gauge


@lru_cache(maxsize=64)
def encoder_metrics(registry: CollectorRegistry) -> EncoderMetrics:
    """The metrics on `registry`, made at the first call."""
    return EncoderMetrics(
        requests=Counter(f"{PREFIX}_requests", "Requests by HTTP status.", ["protocol", "status"], registry=registry),
        request_seconds=Histogram(
            f"{PREFIX}_request_seconds",
            "Time of an answered request, from its last byte to its reply.",
            ["protocol"],
            buckets=_SECONDS,
            registry=registry,
        ),
        tokens=Counter(f"{PREFIX}_tokens", "Tokens that were read.", registry=registry),
        padding=Counter(f"{PREFIX}_padding_tokens", "Padding that went through the model.", registry=registry),
        release=Info(f"{PREFIX}_release", "What is served.", registry=registry),
        min_cosine=Gauge(
            f"{PREFIX}_min_cosine", "Lowest cosine with torch's fp32 vectors on the check texts.", registry=registry
        ),
    )
