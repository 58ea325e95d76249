"""Ranking metrics of single queries, as array functions over grades.

Every function returns one value a query, NaN where the metric is not defined for that query (nothing to find, nothing
to compare): such a query is left out of the mean and counted, never scored 0. `grades_QK` holds the grades of a
ranking, best place first, 0 for an item that nobody judged; `condensed_QJ` holds the same query's judged items only,
in the system's order (Sakai 2007's condensed list), however deep they stand.
"""

import re

import numpy as np

from taoemb.config import EvaluationConfig
from taoemb.evaluation.qrels import Qrels

GAINS = np.array([0.0, 0.0, 1.0, 3.0, 7.0])  # 2^(grade − 1) − 1; an item that nobody judged gains nothing

DESCRIPTIONS = {
    "hitrate": "share of the ground-truth items (grade {relevant_grade} and up) among the top {k}",
    "recall": "share of the good items (grade {good_grade} and up) among the top {k}",
    "ndcg": "nDCG of the top {k}, gain 2^(grade−1)−1; unjudged items gain nothing",
    "ndcg_condensed": "nDCG of the top {k} after unjudged items are taken out of the ranking",
    "goodrate": "share of the top {k} with a good grade; unjudged items count as not good",
    "goodrate_judged": "share of good grades among the judged items of the top {k}",
    "judged": "coverage: share of the top {k} that is judged at all",
    "mrr": "1 / rank of the first good item, 0 below place {k}",
    "bpref": "how rarely a judged bad item stands above a judged good one",
    "pair_accuracy": "share of judged pairs of different grades that are in the right order",
    "judge_goodrate": "share of the top {k} that the judge rates good",
    "judge_query_goodrate": "share of queries with at least half of the top {k} rated good by the judge",
}
HEADLINES = ("hitrate", "goodrate", "ndcg_condensed", "pair_accuracy", "judge_goodrate")


def describe(metric: str, config: EvaluationConfig) -> str:
    """One line that defines a metric such as "hitrate@100"."""
    name, _, k = metric.partition("@")
    return DESCRIPTIONS[name].format(k=k, good_grade=config.good_grade, relevant_grade=config.relevant_grade)


def share_found(grades_QK: np.ndarray, total_Q: np.ndarray, level: int, k: int) -> np.ndarray:
    """Share of a query's `total_Q` items of grade ≥ `level` found in the top k (Hitrate: paper section 5; Recall)."""
    return _divide((grades_QK[:, :k] >= level).sum(axis=1), total_Q)


def good_share(grades_QK: np.ndarray, level: int, k: int) -> np.ndarray:
    """Share of the top k with grade ≥ `level`; missing and unjudged places count as not good."""
    return (grades_QK[:, :k] >= level).sum(axis=1) / k


def good_share_judged(grades_QK: np.ndarray, level: int, k: int) -> np.ndarray:
    """Share of grade ≥ `level` among the judged items of the top k; NaN when none is judged."""
    return _divide((grades_QK[:, :k] >= level).sum(axis=1), (grades_QK[:, :k] > 0).sum(axis=1))


def judged_share(grades_QK: np.ndarray, k: int) -> np.ndarray:
    """Share of the top k that is judged."""
    return (grades_QK[:, :k] > 0).sum(axis=1) / k


def ndcg(grades_QK: np.ndarray, ideal_QJ: np.ndarray, k: int) -> np.ndarray:
    """nDCG@k with gains 2^(grade − 1) − 1 and discount log2(rank + 1) (Burges et al. 2005).

    `ideal_QJ` holds all judged grades of each query, best first. NaN when no judged item has a gain.
    """
    return _divide(_dcg(grades_QK[:, :k]), _dcg(ideal_QJ[:, :k]))


def reciprocal_rank(grades_QK: np.ndarray, level: int, k: int) -> np.ndarray:
    """1 / rank of the first item of grade ≥ `level` in the top k, else 0."""
    good_QK = grades_QK[:, :k] >= level
    return np.where(good_QK.any(axis=1), 1.0 / (good_QK.argmax(axis=1) + 1.0), 0.0)


def bpref(condensed_QJ: np.ndarray, level: int) -> np.ndarray:
    """bpref (Buckley and Voorhees 2004, as in trec_eval) over each query's judged items; NaN when none is good.

    Mean over the R good items of 1 − min(bad items above, min(R, N)) / min(R, N), N bad items in all; 1 when N is 0.
    """
    good_QJ = condensed_QJ >= level
    bad_QJ = (condensed_QJ > 0) & ~good_QJ
    good_Q, bad_Q = good_QJ.sum(axis=1), bad_QJ.sum(axis=1)
    bound_Q = np.maximum(np.minimum(good_Q, bad_Q), 1)[:, None]
    above_QJ = np.minimum(bad_QJ.cumsum(axis=1), bound_Q)
    return _divide(((1.0 - above_QJ / bound_Q) * good_QJ).sum(axis=1), good_Q)


def pair_accuracy(qrels: Qrels, scores: np.ndarray) -> np.ndarray:
    """Share of a query's judged pairs of different grades that `scores` (J,) order as the grades do; a tie is half.

    (Q,); NaN when all judged items of a query have one grade.
    """
    shares = np.full(len(qrels), np.nan)
    for i, (start, stop) in enumerate(zip(qrels.indptr[:-1], qrels.indptr[1:], strict=True)):
        grades, scored = qrels.grades[start:stop], scores[start:stop]
        right = total = 0.0
        for grade in np.unique(grades)[1:]:
            upper, lower = scored[grades == grade], np.sort(scored[grades < grade])
            right += np.searchsorted(lower, upper, "left").sum() / 2 + np.searchsorted(lower, upper, "right").sum() / 2
            total += len(upper) * len(lower)
        if total:
            shares[i] = right / total
    return shares


def largest_cutoff(config: EvaluationConfig) -> int:
    """How deep a ranking must go for every metric asked for."""
    return max(1, *config.hitrate, *config.recall, *config.ndcg, *config.goodrate, *config.mrr)


def per_query(
    qrels: Qrels, rows_QK: np.ndarray, judged_scores_J: np.ndarray, config: EvaluationConfig
) -> dict[str, np.ndarray]:
    """All metrics by human grades: name → (Q,) float64, NaN where undefined.

    `rows_QK` is the ranking (−1 for an empty place); `judged_scores_J` the system's score of each judgment in `qrels`.
    """
    good, relevant = config.good_grade, config.relevant_grade
    grades_QK = qrels.lookup(rows_QK)
    ideal_QJ = qrels.ordered(qrels.grades.astype(np.float64))
    condensed_QJ = qrels.ordered(judged_scores_J)
    values = {f"hitrate@{k}": share_found(grades_QK, qrels.count(relevant), relevant, k) for k in config.hitrate}
    values |= {f"recall@{k}": share_found(grades_QK, qrels.count(good), good, k) for k in config.recall}
    for k in config.ndcg:
        values[f"ndcg@{k}"] = ndcg(grades_QK, ideal_QJ, k)
        values[f"ndcg_condensed@{k}"] = ndcg(condensed_QJ, ideal_QJ, k)
    for k in config.goodrate:
        values[f"goodrate@{k}"] = good_share(grades_QK, good, k)
        values[f"goodrate_judged@{k}"] = good_share_judged(grades_QK, good, k)
    values |= {f"mrr@{k}": reciprocal_rank(grades_QK, good, k) for k in config.mrr}
    values["bpref"] = bpref(condensed_QJ, good)
    values["pair_accuracy"] = pair_accuracy(qrels, judged_scores_J)
    values |= {f"judged@{k}": judged_share(grades_QK, k) for k in sorted({*config.ndcg, *config.goodrate})}
    unjudged_Q = np.diff(qrels.indptr) == 0
    return {name: np.where(unjudged_Q, np.nan, column) for name, column in values.items()}


def by_judge(grades_QK: np.ndarray, config: EvaluationConfig, depth: int) -> dict[str, np.ndarray]:
    """Goodrate and query goodrate (paper sections 5 and 6) by a judge's grades: name → (Q,), NaN where undefined.

    `grades_QK`: 0 where the judge did not answer (left out of the share), −1 where there is no item (not good). A query
    is good when at least half of its answered top k is; the mean over queries is the share of good queries.
    """
    values = {}
    for k in sorted({min(k, depth) for k in config.goodrate}):
        top = grades_QK[:, :k]
        share = _divide((top >= config.good_grade).sum(axis=1), (top != 0).sum(axis=1))
        values[f"judge_goodrate@{k}"] = share
        values[f"judge_query_goodrate@{k}"] = np.where(np.isnan(share), np.nan, (share >= 0.5).astype(np.float64))
    return values


def names(config: EvaluationConfig, judge: bool) -> list[str]:
    """The metrics that an evaluation computes."""
    nothing = Qrels(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))
    computed = list(per_query(nothing, np.empty((0, 1), np.int64), np.empty(0), config))
    return computed + (list(by_judge(np.empty((0, 1), np.int8), config, config.judge_depth)) if judge else [])


def is_quality(metric: str) -> bool:
    """Whether more of the metric is better; coverage says how far to trust, not how good."""
    return re.fullmatch(r"judged@\d+", metric) is None


def _dcg(grades_QK: np.ndarray) -> np.ndarray:
    discounts_K = 1.0 / np.log2(np.arange(2, grades_QK.shape[1] + 2))
    return GAINS[grades_QK] @ discounts_K


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
