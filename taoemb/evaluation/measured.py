"""What an evaluation found, query by query; tables, files and the report are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from taoemb.data.dataset import Dataset
from taoemb.evaluation.qrels import Qrels
from taoemb.evaluation.ranking import Ranking


@dataclass(frozen=True)
class Measured:
    """Rankings and metrics of the evaluated queries, Q of them."""

    data: Dataset
    query_rows: np.ndarray  # (Q,) rows of the dataset's queries
    qrels: Qrels
    masks: Mapping[str, np.ndarray]  # slice → (Q,) bool
    rankings: Mapping[str, Ranking]  # system → ranking
    values: Mapping[str, Mapping[str, np.ndarray]]  # system → metric → (Q,), nan where undefined
    judge_grades: Mapping[str, np.ndarray]  # system → (Q, judge depth) int8, 0 unanswered; empty without a judge

    def grades(self, system: str, queries: slice, depth: int) -> np.ndarray:
        """Human grades of the first `depth` places of consecutive queries, (n, depth) int8; 0 where not judged."""
        return self.qrels.lookup(self.rankings[system].rows_QK[queries, :depth], queries.start)
