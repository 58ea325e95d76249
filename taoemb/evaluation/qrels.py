"""Judgments grouped by query, so that metrics are array arithmetic and never a dictionary per pair."""

from dataclasses import dataclass

import numpy as np

from taoemb.data.dataset import Judgments

LOOKUP_ELEMENTS = 1 << 22  # pairs looked up at once


@dataclass(frozen=True)
class Qrels:
    """Graded items of Q queries: query i owns `item_rows[indptr[i]:indptr[i + 1]]` (ascending) and their `grades`.

    Grades are 1–4; 0 stands for "not judged" wherever grades of a ranking are asked for.
    """

    indptr: np.ndarray  # (Q + 1,) int64
    item_rows: np.ndarray  # (J,) int64
    grades: np.ndarray  # (J,) int8

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def owners(self) -> np.ndarray:
        """The query (0 … Q − 1) of each judgment, (J,) int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    def count(self, level: int) -> np.ndarray:
        """Judged items of each query with a grade of at least `level`, (Q,) int64."""
        return np.bincount(self.owners[self.grades >= level], minlength=len(self))

    def lookup(self, rows_QK: np.ndarray, first: int = 0) -> np.ndarray:
        """Grade of each item ranked for the queries from `first` on; 0 where not judged or the place is empty (−1)."""
        found_QK = np.zeros(rows_QK.shape, dtype=np.int8)
        if not len(self.item_rows):
            return found_QK
        span = int(max(self.item_rows.max(), rows_QK.max(initial=0))) + 2
        keys = self.owners * span + self.item_rows
        step = max(1, LOOKUP_ELEMENTS // max(rows_QK.shape[1], 1))
        for start in range(0, len(rows_QK), step):
            rows = rows_QK[start : start + step]
            queries = first + start + np.arange(len(rows))
            wanted = (queries * span)[:, None] + np.where(rows < 0, span - 1, rows)
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found_QK[start : start + step] = np.where(keys[place] == wanted, self.grades[place], 0)
        return found_QK

    def ordered(self, scores: np.ndarray) -> np.ndarray:
        """Grades of each query's judged items by descending `scores` (J,), ties by row: (Q, most) int8, 0-padded."""
        owners = self.owners
        order = np.lexsort((self.item_rows, -scores, owners))
        most = int(np.diff(self.indptr).max(initial=0))
        table = np.zeros((len(self), most), dtype=np.int8)
        table[owners, np.arange(len(owners)) - self.indptr[owners]] = self.grades[order]
        return table


def group(judgments: Judgments | None, query_rows: np.ndarray) -> Qrels:
    """Judgments of the queries `query_rows` (Q,), in that order; a pair that was judged several times has one grade."""
    if judgments is None or not len(query_rows):
        return Qrels(np.zeros(len(query_rows) + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))
    judgments = judgments.settled()
    order = np.argsort(query_rows)
    place = np.minimum(np.searchsorted(query_rows, judgments.query_rows, sorter=order), len(query_rows) - 1)
    owners = order[place]
    keep = query_rows[owners] == judgments.query_rows
    owners, rows, grades = owners[keep], judgments.item_rows[keep].astype(np.int64), judgments.grades[keep]
    ranked = np.lexsort((rows, owners))
    indptr = np.searchsorted(owners[ranked], np.arange(len(query_rows) + 1))
    return Qrels(indptr.astype(np.int64), rows[ranked], grades[ranked].astype(np.int8))
