"""How the rollout report says things: metrics in plain words, numbers in the metric's own unit, times in UTC."""

from datetime import UTC, datetime

from taoemb.evaluation.plots import number
from taoemb.rollout.measurement.measured import Estimate
from taoemb.rollout.wording import POINTS

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


def scale(metric: str) -> float:
    """What a metric is multiplied with to be shown: shares are percent, differences of shares points of 100."""
    return 100.0 if metric in POINTS else 1.0


def shown(value: float, metric: str) -> str:
    """A level of a metric, e.g. 62.0 % or 18.2 ms."""
    if metric in POINTS:
        return f"{number(100 * value, digits=1)} %"
    return f"{number(value, digits=1)} ms" if metric == "latency_ms" else number(value)


def change(value: float, metric: str) -> str:
    """A difference in a metric, e.g. +6.70 points."""
    if abs(value) == float("inf"):
        return "∞" if value > 0 else "−∞"
    return f"{_signed(value, metric)}{unit(metric)}"


def bounds(estimate: Estimate) -> str:
    """The two ends of an interval, in the units of :func:`change`."""
    ends = ("∞" if abs(end) == float("inf") else _signed(end, estimate.metric) for end in (estimate.low, estimate.high))
    return f"[{', '.join(ends)}]"


def unit(metric: str) -> str:
    """The unit of a difference, with a space before it."""
    return " points" if metric in POINTS else " ms" if metric == "latency_ms" else ""


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


def _signed(value: float, metric: str) -> str:
    digits = 1 if metric == "latency_ms" else 2 if metric in POINTS else 3
    return number(scale(metric) * value, signed=True, digits=digits)
