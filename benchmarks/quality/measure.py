"""How good a page is, graded by the generated shop's own rules: every item of the catalogue has its true grade.

No pool, no unjudged items: what a system finds is graded, whatever it is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from taoemb.data.dataset import Dataset, open_dataset
from taoemb.data.oracle import ShopView, grades
from taoemb.encoder.model import Encoder
from taoemb.encoder.text import ItemTemplate
from taoemb.evaluation.bootstrap import Estimate, intervals
from taoemb.retrieval.bm25 import BM25Route
from taoemb.rewards.quality import quality_scores

DEPTH, ROUTE = 10, 100
KINDS = ("long-tail", "negation", "alternative", "question", "knowledge", "plain")
WORDS = ((1, 3), (4, 6), (7, 99))
"""Slices by the query's length."""
METRICS = {
    "goodrate@10": "share of the top 10 that is Related or Excellent",
    "grade@10": "mean of (grade − 1)/3 over the top 10",
    "exact@10": "Excellent items in the top 10, of those that could be there",
    "quality@10": "mean quality of the top 10 (quantile of its signals within the category)",
    "bm25_overlap@10": "share of the top 10 that the BM25 route has in its top 100",
}
PerQuery = Mapping[str, np.ndarray]
"""Metric → (Q,)."""


class TrueGrades:
    """Grades of all items for the held-out queries of a generated shop, and metrics of rankings by them."""

    def __init__(self, folder: Path) -> None:
        self.data: Dataset = open_dataset(folder, need=("items", "queries"))
        view = ShopView(self.data.items)
        self.grades_QN = np.stack([grades(self.data, row, view) for row in range(len(self.data.queries))])
        self._quality_N = quality_scores(self.data.items)
        self.route_QN = BM25Route(self.data.items, ROUTE).top(self.data.queries.texts)
        self.slices = self._slices()

    def _slices(self) -> dict[str, np.ndarray]:
        kinds = np.array([slices[0] for slices in self.data.queries.slices])
        lengths = np.array([len(text.split()) for text in self.data.queries.texts])
        by_length = {f"{a}–{b} words" if b < 99 else f"{a} and more words": (a, b) for a, b in WORDS}
        return (
            {"all": np.ones(len(kinds), dtype=bool)}
            | {kind: kinds == kind for kind in KINDS}
            | {name: (lengths >= a) & (lengths <= b) for name, (a, b) in by_length.items()}
        )

    def of_encoder(self, queries: Encoder, vectors_ND: np.ndarray) -> PerQuery:
        """Metrics of exact search with this query encoder over item vectors (N, D)."""
        return self.of_ranking(self.top(queries, vectors_ND))

    def top(self, queries: Encoder, vectors_ND: np.ndarray) -> np.ndarray:
        """The best item rows (Q, DEPTH)."""
        scores_QN = queries.encode(self.data.queries.texts, "query") @ vectors_ND.T
        return np.argsort(-scores_QN, axis=1, kind="stable")[:, :DEPTH]

    def of_ranking(self, rows_QK: np.ndarray) -> PerQuery:
        """Metrics of a ranking (Q, at least DEPTH); −1 is an empty place."""
        top_QK = rows_QK[:, :DEPTH]
        found_QK = top_QK >= 0
        grades_QK = np.where(found_QK, np.take_along_axis(self.grades_QN, np.maximum(top_QK, 0), 1), 1)
        possible_Q = np.minimum(DEPTH, (self.grades_QN == 4).sum(1))
        route = [np.isin(own, route) for own, route in zip(top_QK, self.route_QN, strict=True)]
        return {
            "goodrate@10": (grades_QK >= 3).mean(1),
            "grade@10": ((grades_QK - 1) / 3).mean(1),
            "exact@10": (grades_QK == 4).sum(1) / possible_Q,
            "quality@10": (self._quality_N[np.maximum(top_QK, 0)] * found_QK).sum(1) / np.maximum(found_QK.sum(1), 1),
            "bm25_overlap@10": (np.stack(route) & found_QK).sum(1) / np.maximum(found_QK.sum(1), 1),
        }


def embed_items(encoder: Encoder, data: Dataset) -> np.ndarray:
    """Vectors (N, D) of the whole catalogue."""
    template = ItemTemplate(encoder.spec.item_template)
    parts = [encoder.encode(data.items.texts(rows, template), "item") for rows in data.items.batches(4096)]
    return np.concatenate(parts)


def mean_over_seeds(runs: Sequence[PerQuery], metric: str) -> np.ndarray:
    """(Q,): each query's mean over the runs of all seeds."""
    return np.stack([run[metric] for run in runs]).mean(axis=0)


def paired(
    ours: Sequence[PerQuery], theirs: Sequence[PerQuery], metric: str, mask_Q: np.ndarray | None = None
) -> tuple[Estimate, list[float]]:
    """Difference ours − theirs, and each seed's.

    95 % paired BCa bootstrap over queries, each of which is the mean of its seeds.
    """
    difference_Q = mean_over_seeds(ours, metric) - mean_over_seeds(theirs, metric)
    each = [a[metric] - b[metric] for a, b in zip(ours, theirs, strict=True)]
    if mask_Q is not None:
        difference_Q, each = difference_Q[mask_Q], [one[mask_Q] for one in each]
    estimate = intervals(difference_Q[:, None], resamples=2000, confidence=0.95, seed=0)[0]
    assert estimate is not None
    return estimate, [float(one.mean()) for one in each]


def points(estimate: Estimate) -> str:
    """A difference in points with its interval."""
    return f"{100 * estimate.value:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"
