"""h_exclusivity: reward for items that the inverted-index route would not bring (paper section 4).

Two measures: true membership in the BM25 route's top N (default), or the paper's approximation by the share of query
terms that the item's title covers.
"""

from collections.abc import Sequence

import numpy as np

from taoemb.retrieval.bm25 import BM25Route, terms


def outside_route(route: BM25Route, queries: Sequence[str], rows_QK: np.ndarray) -> np.ndarray:
    """1 where an item is not among the BM25 route's top for its query, else 0. Shape (Q, K) float32."""
    top_QN = route.top(queries)
    return np.stack([~np.isin(rows_K, top_N) for rows_K, top_N in zip(rows_QK, top_QN, strict=True)], dtype=np.float32)


def uncovered_terms(query: str, titles: Sequence[str]) -> np.ndarray:
    """1 − |query terms in the title| / |query terms| for each title (paper's approximation). Shape (K,) float32.

    A query without terms is covered by everything: 0.
    """
    wanted = set(terms(query))
    if not wanted:
        return np.zeros(len(titles), dtype=np.float32)
    return np.array([1 - len(wanted & set(terms(title))) / len(wanted) for title in titles], dtype=np.float32)
