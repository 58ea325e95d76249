"""How the rollout report says things: metrics in plain words, numbers in the metric's own unit, times in UTC."""

from datetime import UTC, datetime

from taoemb.evaluation.plots import number
from taoemb.rollout.measured import Estimate

WORDS = {
    "query_goodrate": "Query Goodrate",
    "item_goodrate": "Item Goodrate",
    "gsb": "GSB",
    "ndcg": "nDCG",
    "empty_rate": "Empty pages",
    "error_rate": "Errors",
    "bm25_overlap": "Overlap with BM25",
    "latency_ms": "Latency",
    "click_rate": "Clicks",
    "cart_rate": "Carts",
    "conversion_rate": "Conversions",
    "preference": "Preference",
}
GRADES = {4: "Excellent", 3: "Related", 2: "Mismatch", 1: "Irrelevant"}


def shown(value: float, metric: str, *, signed: bool = False) -> str:
    """A value of a metric: milliseconds with one digit, shares with three."""
    if metric == "latency_ms":
        return f"{number(value, signed=signed, digits=1)} ms"
    return number(value, signed=signed)


def bounds(estimate: Estimate) -> str:
    """The confidence sequence's two ends."""
    return f"[{_bound(estimate.low, estimate.metric)}, {_bound(estimate.high, estimate.metric)}]"


def level(alpha: float) -> str:
    """The level of an interval, e.g. 99.5 %."""
    return f"{100 * (1 - alpha):.4g} %"


def p_value(p: float) -> str:
    """A p-value, small ones by their order."""
    return "< 0.0001" if p < 1e-4 else number(p, digits=4 if p < 0.01 else 2)


def count(value: int) -> str:
    """A count with separators."""
    return f"{value:,}"


def utc(at: float) -> str:
    """Unix seconds as a date and time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _bound(value: float, metric: str) -> str:
    if abs(value) == float("inf"):
        return "∞" if value > 0 else "−∞"
    return shown(value, metric, signed=True)
