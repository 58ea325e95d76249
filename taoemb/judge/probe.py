"""Sixteen pairs before anything costly begins: a judge that is set up wrongly is found in seconds, in its own words.

Who is asked wrongly (a model that thinks first, another model name, no log-probabilities) fails on every pair; a pair
that fails by itself says nothing. So the probe stops a job only where most pairs fail: how many may stay unanswered
later on is for `judge.max_unanswered`. What is answered is remembered by the client and kept in the cache.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taoemb.config import JudgeConfig
from taoemb.data.dataset import Dataset
from taoemb.judge.client import JudgeClient, Judged
from taoemb.judge.failures import JudgeUnfit

PAIRS = 16
MOST_UNANSWERED = 0.5
Pairs = tuple[Sequence[str], Sequence[Mapping[str, Any]]]  # queries, and an item each

_TITLES = ("Women's running shoes, blue", "Oak dining table for six", "USB-C cable, 2 m", "Ceramic coffee mug")
_QUERIES = ("running shoes", "dining table", "charging cable", "coffee mug")
FIXED: Pairs = ([query for query in _QUERIES for _ in _TITLES], [{"title": title} for title in _TITLES] * len(_QUERIES))


def probe(client: JudgeClient, pairs: Pairs = FIXED) -> int:
    """Ask the judge about `pairs` (those of :func:`pairs_of`, or of a shop of their own) and give how many were asked.

    Raises JudgeUnfit with the first bad answer when none of them, or less than half (less than 1 −
    `judge.max_unanswered`, where that is fewer), is answered; JudgeUnavailable when the judge stays away for
    `judge.wait_s`.
    """
    queries, items = pairs
    judged = client.probe(queries, items)
    problem = unfit(client.config, judged)
    if problem:
        raise JudgeUnfit(problem)
    return judged.asked


def unfit(config: JudgeConfig, judged: Judged) -> str:
    """What the first answers say against the judge; empty when it answered enough of them."""
    n, url = len(judged.relevance), config.url
    if n and judged.unanswered == n:
        return f"the judge at {url} answered none of the pairs, of {n} tried first: {judged.problem}"
    if judged.unanswered > max(MOST_UNANSWERED, config.max_unanswered) * n:
        return f"the judge at {url} answered only {n - judged.unanswered} of {n} pairs tried first: {judged.problem}"
    return ""


def pairs_of(data: Dataset, judgments: np.ndarray | None = None) -> Pairs:
    """Up to sixteen pairs spread over the dataset: of its judgments (the rows `judgments`), else of its pairs, else
    each of some queries with some item; the fixed ones where there are no queries."""
    if data.judgments is not None and len(data.judgments):
        rows = np.arange(len(data.judgments)) if judgments is None else judgments
        rows = rows[_spread(len(rows))]
        query_rows, item_rows = data.judgments.query_rows[rows], data.judgments.item_rows[rows]
    elif data.pairs is not None and len(data.pairs):
        rows = _spread(len(data.pairs))
        query_rows, item_rows = data.pairs.query_rows[rows], data.pairs.item_rows[rows]
    elif len(data.queries) and len(data.items):
        query_rows = _spread(len(data.queries))
        item_rows = _spread(len(data.items))[np.arange(len(query_rows)) % min(PAIRS, len(data.items))]
    else:
        return FIXED
    return [data.queries.texts[row] for row in query_rows], data.items.records(np.asarray(item_rows, dtype=np.int64))


def _spread(n: int) -> np.ndarray:
    """At most sixteen places among `n`, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, PAIRS)).astype(np.int64))
