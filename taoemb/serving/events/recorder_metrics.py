"""Prometheus metrics of recording; one set a registry."""

from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge


@dataclass(frozen=True)
class RecorderMetrics:
    """Counters of rows by table, and how far the database is behind."""

    recorded: Counter
    written: Counter
    replayed: Counter
    rejected: Counter
    lost: Counter
    away: Gauge
    lag: Gauge


@lru_cache(maxsize=64)
def recorder_metrics(registry: CollectorRegistry) -> RecorderMetrics:
    """The metrics on `registry`, made at the first call."""

    def rows(name: str, what: str) -> Counter:
        counter = Counter(f"taoemb_events_{name}_rows", what, ["table"], registry=registry)
        for table in ("pages", "events"):
            counter.labels(table)  # a counter that begins above 0 has not increased for Prometheus
        return counter

    def state(name: str, what: str) -> Gauge:
        # processes that share a spool all see the same: the latest to look tells it
        return Gauge(f"taoemb_events_{name}", what, registry=registry, multiprocess_mode="mostrecent")

    return RecorderMetrics(
        recorded=rows("recorded", "Rows handed over by the gateway."),
        written=rows("written", "Rows the database has taken; a row may count again after a crash."),
        replayed=rows("replayed", "Written rows that had waited for the database or come from a process that ended."),
        rejected=rows("rejected", "Rows that can't be written for their content; kept in the spool's rejected/."),
        lost=rows("lost", "Rows that neither the spool nor memory could take."),
        away=state("database_away", "1 while the database does not answer."),
        lag=state("lag_seconds", "Age of the oldest row that waits."),
    )
