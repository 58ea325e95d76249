"""What one served page is worth in each metric: the definitions, which agree with the offline ones where both exist.

The values of a page depend on that page alone. So what was measured at one look is never revised by later pages, and
sequences that are valid under peeking stay so.
"""

import math
from collections.abc import Sequence

from taoemb.rollout.plan import MetricName

GRADED: tuple[MetricName, ...] = ("item_goodrate", "query_goodrate", "ndcg")
"""From the judge's grades of the page's top places."""
FREE: tuple[MetricName, ...] = ("error_rate", "empty_rate", "latency_ms")
"""From the page's own row."""
OUTCOMES: dict[MetricName, str] = {"click_rate": "click", "cart_rate": "add_to_cart", "conversion_rate": "purchase"}
"""Metric → type of event: whether any such event happened on the page."""
PAIRED: tuple[MetricName, ...] = ("gsb", "preference")
"""One value compares both arms: candidate wins +1, loses −1, tie 0."""
BOUNDS: dict[str, tuple[float, float] | None] = {
    **dict.fromkeys((*GRADED, *OUTCOMES, "error_rate", "empty_rate", "bm25_overlap"), (0.0, 1.0)),
    **dict.fromkeys(PAIRED, (-1.0, 1.0)),
    "latency_ms": None,
}
"""Smallest and largest value; None: unbounded."""

DESCRIPTIONS: dict[MetricName, str] = {
    "item_goodrate": "share of the page's top places with a good item; an empty place is not good",
    "query_goodrate": "share of pages with at least half of their top places good",
    "ndcg": "nDCG of the page's top places by expected grades, against a page of Excellent items",
    "gsb": "side by side on the same query: pages better minus pages worse than control's, of all pairs",
    "preference": "interleaving: pages with more clicks on the candidate's items minus those with fewer, of all",
    "error_rate": "share of pages that the unit's own arm could not answer: errors, and the other arm's answers",
    "empty_rate": "share of pages without items",
    "bm25_overlap": "share of the page's items that the BM25 route finds as well",
    "latency_ms": "time from request to answer",
    "click_rate": "share of pages with a click",
    "cart_rate": "share of pages with an item put into the cart",
    "conversion_rate": "share of pages with a purchase",
}
_MOST_GAIN = 7.0  # of grade 4, Excellent


def graded_values(relevance: Sequence[float], places: int, good: float) -> tuple[float, float, float]:
    """item_goodrate, query_goodrate and ndcg of a page, each in [0, 1].

    `relevance` holds the expected relevance in [0, 1] of its items from the top, at most `places`; what is missing up
    to `places` was not shown. An item is good from relevance `good` on. A query is good when at least half of its
    places are (as offline, evaluation.metrics.by_judge). nDCG uses the gain 2^(grade − 1) − 1 of the expected grade
    1 + 3r and the discount log2(rank + 1) (Burges et al. 2005). Its ideal is a page of Excellent items: the best page
    of a query is not known online, and an ideal made of other units' pages would tie units to each other.
    """
    goodrate = sum(r >= good for r in relevance) / places
    dcg = sum((2.0 ** (3.0 * r) - 1.0) / math.log2(rank + 2) for rank, r in enumerate(relevance))
    ideal = sum(_MOST_GAIN / math.log2(rank + 2) for rank in range(places))
    return goodrate, float(goodrate >= 0.5), dcg / ideal


def overlap(items: Sequence[str], route: frozenset[str]) -> float:
    """Share of a page's items that another route's answer holds; 0 for a page without items."""
    return sum(item in route for item in items) / len(items) if items else 0.0


def preference(clicks_candidate: int, clicks_control: int) -> float:
    """Team-draft interleaving (Radlinski, Kurup and Joachims 2008): who got more clicks: +1 the candidate, −1, 0."""
    return float((clicks_candidate > clicks_control) - (clicks_candidate < clicks_control))
