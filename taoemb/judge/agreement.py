"""How well a judge agrees with given grades: the same measures for a judge's held-out queries and for calibration.

Everything but the pooled AUC is a sum over queries, so a bootstrap over queries only re-weights the queries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taoemb.judge.answers import relevance

GOOD_GRADE = 3  # grades from this on are good
ECE_BINS = 10
RESAMPLES = 1000
CONFIDENCE = 0.95

Counts = Callable[[np.ndarray, np.ndarray], np.ndarray]  # grades of two items → whether their order counts
Measure = Callable[[np.ndarray], float]  # weight of each query (Q,) → value, nan when undefined


@dataclass(frozen=True)
class Graded:
    """P answered pairs: query number, human grade 1–4, and the judge's grade probabilities (P, 4)."""

    queries: np.ndarray
    grades: np.ndarray
    probs_P4: np.ndarray

    @property
    def good(self) -> np.ndarray:
        """(P,) whether the given grade is good."""
        return self.grades >= GOOD_GRADE

    @property
    def p_good(self) -> np.ndarray:
        """(P,) the judge's P(grade ≥ 3)."""
        return self.probs_P4[:, GOOD_GRADE - 1 :].sum(1)

    def take(self, rows: np.ndarray) -> "Graded":
        """Just these pairs."""
        return Graded(self.queries[rows], self.grades[rows], self.probs_P4[rows])


def agreement(graded: Graded, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, dict[str, float | int | None]]:
    """measure → {value, low, high, queries}: bootstrap intervals over queries; None where a measure is undefined.

    auc: of grade ≥ 3 by relevance, all pairs pooled · pair_accuracy: share of a query's differently graded item pairs
    that the judge orders alike (ties half), mean over queries · kappa: quadratic-weighted, of the most probable grade ·
    brier, ece: of P(grade ≥ 3); ece over 10 equal bins.
    """
    _, numbers = np.unique(graded.queries, return_inverse=True)
    n_queries = int(numbers.max()) + 1 if len(numbers) else 0
    weights_RQ = resampled(n_queries, resamples, seed)
    result = {}
    for name, (measure, queries) in _measures(graded, numbers, n_queries).items():
        drawn = np.array([measure(weights) for weights in weights_RQ]) if queries > 1 else np.array([])
        drawn = drawn[np.isfinite(drawn)]
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (np.nan, np.nan)
        values = {"value": measure(np.ones(n_queries)), "low": float(low), "high": float(high)}
        result[name] = {key: None if np.isnan(value) else float(value) for key, value in values.items()}
        result[name]["queries"] = queries
    return result


def point_agreement(graded: Graded) -> dict[str, float | None]:
    """measure → value, without intervals."""
    return {name: entry["value"] for name, entry in agreement(graded, resamples=0).items()}


def confusion(graded: Graded) -> np.ndarray:
    """(4, 4) int64 counts: row = given grade, column = the judge's most probable grade."""
    return _confusions(graded, np.zeros(len(graded.grades), dtype=np.int64), 1)[0].astype(np.int64)


def reliability(graded: Graded, bins: int = ECE_BINS) -> list[dict[str, float | int]]:
    """Bins of P(grade ≥ 3) that hold pairs: mean predicted, share that is good, pairs."""
    bin_P = _bins(graded.p_good, bins)
    rows = []
    for number in np.unique(bin_P):
        inside = bin_P == number
        predicted, share = float(graded.p_good[inside].mean()), float(graded.good[inside].mean())
        rows.append({"predicted": predicted, "good": share, "pairs": int(inside.sum())})
    return rows


def resampled(n_queries: int, resamples: int, seed: int) -> np.ndarray:
    """(R, Q) how often each query is drawn in each resample of a bootstrap over queries."""
    if not n_queries:
        return np.zeros((resamples, 0))
    drawn = np.random.default_rng(seed).multinomial(n_queries, np.full(n_queries, 1 / n_queries), size=resamples)
    return drawn.astype(np.float64)


def _measures(graded: Graded, numbers: np.ndarray, n_queries: int) -> Mapping[str, tuple[Measure, int]]:
    """name → (measure, queries that count in it)."""
    pair_Q = ordered_share(numbers, graded.grades, relevance(graded.probs_P4))
    ordered = np.isfinite(pair_Q)
    return {
        "auc": (_auc(graded, numbers), n_queries),
        "pair_accuracy": (lambda w_Q: _ratio(w_Q[ordered] @ pair_Q[ordered], w_Q[ordered].sum()), int(ordered.sum())),
        "kappa": (_kappa(_confusions(graded, numbers, n_queries)), n_queries),
        "brier": (_brier(graded, numbers, n_queries), n_queries),
        "ece": (_ece(graded, numbers, n_queries), n_queries),
    }


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")


def _auc(graded: Graded, numbers: np.ndarray) -> Measure:
    """Mann-Whitney with a weight on each pair; ties count half."""
    scores = relevance(graded.probs_P4)
    order = np.argsort(scores, kind="stable")
    good, query = graded.good[order], numbers[order]
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))

    def measure(weights_Q: np.ndarray) -> float:
        if not len(order):
            return float("nan")
        weights_P = weights_Q[query]
        better = np.add.reduceat(weights_P * good, starts)
        worse = np.add.reduceat(weights_P * ~good, starts)
        below = np.cumsum(worse) - worse / 2
        return _ratio(better @ below, better.sum() * worse.sum())

    return measure


def ordered_share(
    numbers: np.ndarray, grades: np.ndarray, scores: np.ndarray, counts: Counts = np.greater
) -> np.ndarray:
    """(Q,) the share of each query's item pairs that `scores` (P,) puts in the order of `grades` (P,); ties half.

    `numbers` (P,) are the queries from 0 to Q − 1; of the item pairs only those that `counts(grade, other grade)`; nan
    for a query without any.
    """
    n_queries = int(numbers.max()) + 1 if len(numbers) else 0
    result = np.full(n_queries, np.nan)
    for number, rows in enumerate(_rows_by_query(numbers, n_queries)):
        higher = counts(grades[rows][:, None], grades[rows][None, :])
        if higher.any():
            gap = scores[rows][:, None] - scores[rows][None, :]
            result[number] = ((np.sign(gap[higher]) + 1) / 2).mean()
    return result


def _rows_by_query(numbers: np.ndarray, n_queries: int) -> Sequence[np.ndarray]:
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.cumsum(np.bincount(numbers, minlength=n_queries))[:-1]) if n_queries else []


def _confusions(graded: Graded, numbers: np.ndarray, n_queries: int) -> np.ndarray:
    counts_Q44 = np.zeros((n_queries, 4, 4))
    np.add.at(counts_Q44, (numbers, graded.grades.astype(np.int64) - 1, graded.probs_P4.argmax(1)), 1)
    return counts_Q44


def _kappa(counts_Q44: np.ndarray) -> Measure:
    grades = np.arange(4)
    cost_44 = (grades[:, None] - grades[None, :]) ** 2

    def measure(weights_Q: np.ndarray) -> float:
        counts_44 = np.tensordot(weights_Q, counts_Q44, axes=1)
        chance_44 = np.outer(counts_44.sum(1), counts_44.sum(0))
        return 1 - _ratio((cost_44 * counts_44).sum() * counts_44.sum(), (cost_44 * chance_44).sum())

    return measure


def _brier(graded: Graded, numbers: np.ndarray, n_queries: int) -> Measure:
    error_Q = np.bincount(numbers, (graded.p_good - graded.good) ** 2, n_queries)
    pairs_Q = np.bincount(numbers, minlength=n_queries)
    return lambda weights_Q: _ratio(weights_Q @ error_Q, weights_Q @ pairs_Q)


def _bins(p_good: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((p_good * bins).astype(np.int64), bins - 1)


def _ece(graded: Graded, numbers: np.ndarray, n_queries: int) -> Measure:
    gap_QB = np.zeros((n_queries, ECE_BINS))
    np.add.at(gap_QB, (numbers, _bins(graded.p_good, ECE_BINS)), graded.p_good - graded.good)
    pairs_Q = np.bincount(numbers, minlength=n_queries)
    return lambda weights_Q: _ratio(np.abs(weights_Q @ gap_QB).sum(), weights_Q @ pairs_Q)
