"""Real items with people's grades: a small shop made of a dataset folder, and metrics by those grades.

The pool that people graded came from word matching, so what nobody graded may be relevant: pair accuracy, condensed
nDCG and bpref use graded items alone.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from benchmarks.quality.measure import PerQuery
from taoemb.config import QueryGenerationConfig, SplitConfig
from taoemb.data.dataset import Dataset, open_dataset
from taoemb.data.files import link
from taoemb.data.queries import generate_queries
from taoemb.data.split import split
from taoemb.encoder.model import Encoder
from taoemb.evaluation.metrics import per_query
from taoemb.evaluation.qrels import Qrels, group
from taoemb.evaluation.ranking import Ranking
from taoemb.settings.release import EvaluationConfig

METRICS = ("pair_accuracy", "ndcg_condensed@10", "bpref", "recall@100")
DEPTH = 100
ASKED = EvaluationConfig(hitrate=(10,), recall=(DEPTH,), goodrate=(10,))


def small_shop(data: Path, out: Path, others: int, queries: QueryGenerationConfig) -> Path:
    """A place (`train`, `test`) of the graded items of `data` and `others` more; training sees generated queries only.

    `train` has queries made from the items' own structure; `test` people's queries and grades.
    """
    test = graded_items(data, out / "test", others)
    generate_queries(test, out / "generated", queries)
    split(out / "generated", out / "parts", SplitConfig(valid=0.03, test=0))
    (out / "parts" / "train").rename(out / "train")
    for table in ("queries", "judgments"):
        link(data / f"{table}.parquet", test / f"{table}.parquet")
    return out


def graded_items(data: Path, out: Path, others: int) -> Path:
    """The items of `data` that people graded and `others` more, drawn at random."""
    items = pq.read_table(data / "items.parquet")
    graded = pc.unique(pq.read_table(data / "judgments.parquet").column("item_id"))
    is_graded = pc.is_in(items.column("item_id"), value_set=graded).to_numpy()
    drawn = np.random.default_rng(0).choice(np.flatnonzero(~is_graded), others, replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(is_graded), drawn]))
    out.mkdir(parents=True)
    pq.write_table(items.take(pa.array(rows)), out / "items.parquet")
    return out


class HumanGrades:
    """People's queries and grades of a dataset folder."""

    def __init__(self, folder: Path) -> None:
        self.data: Dataset = open_dataset(folder, need=("items", "queries", "judgments"))
        self.qrels: Qrels = group(self.data.judgments, np.arange(len(self.data.queries)))

    def of_encoder(self, queries: Encoder, vectors_ND: np.ndarray) -> PerQuery:
        """Metrics of exact search with this query encoder over item vectors (N, D)."""
        scores_QN = torch.from_numpy(queries.encode(self.data.queries.texts, "query") @ vectors_ND.T)
        rows_QK = scores_QN.topk(min(DEPTH, scores_QN.shape[1]), dim=1).indices.numpy()
        return self.of_scores(rows_QK, scores_QN.numpy()[self.qrels.owners, self.qrels.item_rows])

    def of_ranking(self, ranking: Ranking) -> PerQuery:
        """Metrics of a ranking by the library's own evaluation."""
        return self.of_scores(ranking.rows_QK, ranking.judged_scores_J)

    def of_scores(self, rows_QK: np.ndarray, scores_J: np.ndarray) -> PerQuery:
        """Metrics of a ranking (Q, K) and of the scores (J,) of all graded pairs; NaN where undefined."""
        values = per_query(self.qrels, rows_QK, scores_J, ASKED)
        bad_Q = np.diff(self.qrels.indptr) - self.qrels.count(ASKED.good_grade)
        values["bpref"] = np.where(bad_Q > 0, values["bpref"], np.nan)  # without a bad item there is nothing to tell
        return {metric: values[metric] for metric in METRICS}
