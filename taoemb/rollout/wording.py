"""Numbers of a verdict in words: rates as points of 100, latency in milliseconds, the rest as they are."""

import math

from taoemb.rollout.measurement.measured import Estimate

POINTS = frozenset(
    {
        "query_goodrate",
        "item_goodrate",
        "empty_rate",
        "error_rate",
        "bm25_overlap",
        "click_rate",
        "cart_rate",
        "conversion_rate",
    }
)


def name(metric: str, slice: str) -> str:
    """How a check is called."""
    return metric if slice == "all" else f"{metric} on {slice}"


def units(count: float) -> str:
    """A number of units, e.g. `1 unit` or `2,140 units`."""
    return f"{count:,.0f} unit{'' if count == 1 else 's'}"


def amount(metric: str, value: float, sign: bool = False) -> str:
    """A value or a difference of a metric with its unit; `sign` also shows a plus."""
    if metric in POINTS:
        return f"{100 * value:{'+' if sign else ''}.2f} points"
    return f"{value:{'+' if sign else ''}.4g}" + (" ms" if metric == "latency_ms" else "")


def measured(estimate: Estimate) -> str:
    """The effect, its interval and how many units it rests on."""
    assert estimate.effect is not None
    between = f"{_bound(estimate.metric, estimate.low)} to {_bound(estimate.metric, estimate.high)}"
    count = units(estimate.n_control + estimate.n_candidate)
    return f"{amount(estimate.metric, estimate.effect, sign=True)} ({between}, {count})"


def _bound(metric: str, value: float) -> str:
    return "anything" if math.isinf(value) else amount(metric, value, sign=True).removesuffix(" points")
