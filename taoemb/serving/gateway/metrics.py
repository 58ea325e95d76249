"""Prometheus metrics of the search gateway."""

from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


@dataclass(frozen=True)
class GatewayMetrics:
    """One set a process."""

    searches: Counter
    fallbacks: Counter
    mismatches: Counter
    refused: Counter
    limited: Counter
    unmeasured: Counter
    events: Counter
    refused_events: Counter
    seconds: Histogram
    under_way: Gauge
    percent: Gauge
    traffic_read: Gauge


@lru_cache(maxsize=64)
def gateway_metrics(registry: CollectorRegistry) -> GatewayMetrics:
    """The metrics on `registry`, made at the first call."""
    return GatewayMetrics(
        searches=Counter(
            "taoemb_gateway_searches",
            "Searches by the arm of the unit, the arm that answered (none: an error) and status.",
            ["assigned", "served", "status"],
            registry=registry,
        ),
        fallbacks=Counter(
            "taoemb_gateway_fallbacks",
            "Times that an arm could not answer a search and another was asked, or the same again; by reason.",
            ["arm", "reason"],
            registry=registry,
        ),
        mismatches=Counter(
            "taoemb_gateway_digest_mismatches",
            "Replies of encoders that carried another release than their arm's; never searched with.",
            registry=registry,
        ),
        refused=Counter(
            "taoemb_gateway_refused_searches",
            "Searches answered 503 because too many were under way.",
            registry=registry,
        ),
        limited=Counter(
            "taoemb_gateway_limited_requests",
            "Requests answered 429 because their client sent too many.",
            ["route"],
            registry=registry,
        ),
        unmeasured=Counter(
            "taoemb_gateway_unmeasured_pages",
            "Pages that were answered and are not measured: robot (by its own word), units (too many of one client).",
            ["reason"],
            registry=registry,
        ),
        events=Counter("taoemb_gateway_events", "Shoppers' events.", ["type"], registry=registry),
        refused_events=Counter(
            "taoemb_gateway_refused_events",
            "Events that were not taken: unsigned (no gateway with this key served the page), old.",
            ["reason"],
            registry=registry,
        ),
        seconds=Histogram(
            "taoemb_gateway_search_seconds",
            "Time of a search: total, its encoder, its vector store, and the gateway's own rest.",
            ["part"],
            buckets=_SECONDS,
            registry=registry,
        ),
        under_way=Gauge(
            "taoemb_gateway_searches_under_way",
            "Searches that wait for an answer.",
            multiprocess_mode="livesum",
            registry=registry,
        ),
        traffic_read=Gauge(
            "taoemb_gateway_traffic_read_timestamp_seconds",
            "When the split that this gateway obeys was last read; its age is time() minus this.",
            multiprocess_mode="livemin",
            registry=registry,
        ),
        percent=Gauge(
            "taoemb_gateway_candidate_percent",
            "The candidate's share as this gateway obeys it.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        ),
    )
