"""Is the index as good as exact search? Asked before an alias moves, on the vectors that are really stored."""

import numpy as np

from taoemb.data.dataset import Catalogue
from taoemb.progress import progress
from taoemb.retrieval.milvus import MilvusStore

K = 10
_EQUAL = 1e-5  # scores closer than this are the same: the index and numpy round differently
_READ = 1000


def spot_recall(store: MilvusStore, collection: str, catalogue: Catalogue, metric: str, seed: int = 0) -> float:
    """Recall@10 of `spot_queries` stored vectors, used as queries, against exact search; 0 to 1.

    An answer is right when fewer than ten stored vectors score better than it. At most `spot_items` vectors are read:
    of a larger collection a random sample stands for all, and a better vector in it that the index did not answer
    counts for N / sample of them.
    """
    rng, config, total = np.random.default_rng(seed), store.config, len(catalogue)
    k = min(K, total)
    asked = rng.choice(total, size=min(config.spot_queries, total), replace=False)
    _, queries_QD = store.vectors(collection, catalogue.ids_of(asked))
    answers = [dict(answer) for answer in store.nearest(collection, queries_QD, k)]
    sample = np.sort(rng.choice(total, size=min(config.spot_items, total), replace=False))
    scores_QK = np.full((len(answers), k), -np.inf)  # an answer that is missing is no right one
    for row, answer in enumerate(answers):
        scores_QK[row, : len(answer)] = sorted(answer.values(), reverse=True)
    missed_QK = np.zeros_like(scores_QK)
    queries_QD = _prepared(queries_QD, metric)
    with progress("compare with exact search", total=len(sample)) as bar:
        for start in range(0, len(sample), _READ):
            ids, stored_ND = store.vectors(collection, catalogue.ids_of(sample[start : start + _READ]))
            exact_QN = queries_QD @ _prepared(stored_ND, metric).T
            answered_QN = np.array([[item in answer for item in ids] for answer in answers])
            better_QKN = exact_QN[:, None, :] > scores_QK[:, :, None] + _EQUAL
            missed_QK += (better_QKN & ~answered_QN[:, None, :]).sum(axis=2)
            bar.advance(len(ids))
    better_QK = np.arange(k) + missed_QK * (total / len(sample))
    return float((np.isfinite(scores_QK) & (better_QK < k)).mean())


def _prepared(vectors: np.ndarray, metric: str) -> np.ndarray:
    """float64, of length 1 when the metric looks at directions only."""
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if metric == "cosine" else vectors
