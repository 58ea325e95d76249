"""Which queries, positives and random items a step uses: pure functions of (seed, step).

No sampler state exists, so a resumed run, and a run on another number of ranks, sees the same data in the same order.
"""

from functools import lru_cache

import numpy as np

from taoemb.data.dataset import Catalogue, Pairs
from taoemb.errors import InputError

_POSITIVES, _RANDOM_ITEMS = 1, 2  # streams of random numbers that must not share draws


def check_some(query_rows: np.ndarray) -> None:
    """Raise InputError when there is no query to train on."""
    if len(query_rows) == 0:
        raise InputError("training data: no query to train on; give queries with at least one pair")


class QueryOrder:
    """An endless, seeded order over `rows`: one permutation after another."""

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        check_some(rows)
        self._rows, self._seed = rows, seed
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def _permute(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(self._rows)

    def at(self, step: int, count: int) -> np.ndarray:
        """The `count` query rows of `step` (over all ranks)."""
        first = step * count
        positions = np.arange(first, first + count)
        epochs, offsets = positions // len(self._rows), positions % len(self._rows)
        return np.array([self._permutation(int(e))[o] for e, o in zip(epochs, offsets, strict=True)])


class Positives:
    """The known positives of every query, and a weighted draw of one of them.

    A pair of weight 0 is never drawn: it says that the item answers the query, so that it is no negative.
    """

    def __init__(self, pairs: Pairs, n_queries: int) -> None:
        order = np.lexsort((pairs.item_rows, pairs.query_rows))
        self._items, self._weights = pairs.item_rows[order], pairs.weights[order].astype(np.float64)
        self._starts = np.searchsorted(pairs.query_rows[order], np.arange(n_queries + 1))
        drawable = np.concatenate([[0], np.cumsum(self._weights > 0)])
        self._drawable_Q = drawable[self._starts[1:]] > drawable[self._starts[:-1]]

    @property
    def query_rows(self) -> np.ndarray:
        """Queries that have at least one positive to draw."""
        return np.flatnonzero(self._drawable_Q)

    def of(self, query_row: int) -> np.ndarray:
        """Item rows of the query's positives, those of weight 0 too."""
        return self._items[self._starts[query_row] : self._starts[query_row + 1]]

    def draw(self, query_rows: np.ndarray, seed: int, step: int) -> np.ndarray:
        """One positive a query, drawn by pair weight; −1 for a query that has none. Shape (Q,)."""
        uniform = np.random.default_rng([seed, step, _POSITIVES]).random(len(query_rows))
        drawn = np.full(len(query_rows), -1, dtype=np.int64)
        for i, row in enumerate(query_rows):
            lo, hi = self._starts[row], self._starts[row + 1]
            if self._drawable_Q[row]:
                cumulative = np.cumsum(self._weights[lo:hi])
                drawn[i] = self._items[lo + np.searchsorted(cumulative, uniform[i] * cumulative[-1], "right")]
        return drawn


def random_items(n_items: int, count: int, seed: int, step: int) -> np.ndarray:
    """`count` item rows of the whole catalogue, drawn with replacement (paper section 2: G)."""
    return np.random.default_rng([seed, step, _RANDOM_ITEMS]).integers(0, n_items, count)


class FalseNegatives:
    """Finds candidates that must not count as negatives: known positives, and items with the title of one."""

    def __init__(self, catalogue: Catalogue, positives: Positives) -> None:
        titles = catalogue.column("title").combine_chunks().dictionary_encode()
        self._title_N = titles.indices.to_numpy(zero_copy_only=False)
        self._positives = positives

    def mask(self, query_rows: np.ndarray, candidate_rows: np.ndarray) -> np.ndarray:
        """True where a candidate is a positive of the query, or bears the same title as one.

        Shapes: (Q,), candidates (M,) shared by all queries or (Q, M) → (Q, M) bool.
        """
        candidates_QM = np.broadcast_to(candidate_rows, (len(query_rows), candidate_rows.shape[-1]))
        titles_QM = self._title_N[candidates_QM]
        return np.stack(
            [
                np.isin(titles_M, self._title_N[self._positives.of(int(row))])
                for row, titles_M in zip(query_rows, titles_QM, strict=True)
            ]
        )
