"""Confidence intervals of means over queries: the BCa bootstrap and a paired randomisation test.

Queries are the sample; a difference between two systems is taken query by query first (paired), so that the spread
between easy and hard queries does not hide it. Same data and seed give the same numbers, whatever else is computed.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CHUNK_ELEMENTS = 1 << 22  # resampling weights held at once (32 MiB)
DECIMALS = 12  # equal means must compare equal, whatever the order of summation
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """A mean over `queries` queries with its interval; `p` is the two-sided p-value of a difference, else None."""

    value: float
    low: float
    high: float
    queries: int
    p: float | None = None


def intervals(
    values_QC: np.ndarray, *, resamples: int, confidence: float, seed: int, test: bool = False
) -> list[Estimate | None]:
    """Mean and interval of each column of `values_QC` (Q queries × C quantities); NaN entries are left out.

    Bias-corrected and accelerated percentile bootstrap (Efron 1987). With `test`, each column is taken as paired
    differences and gets the p-value of Fisher's randomisation test (random signs). None for a column without values.
    """
    defined_QC = ~np.isnan(values_QC)
    found: list[Estimate | None] = [None] * values_QC.shape[1]
    masks, which = np.unique(defined_QC, axis=1, return_inverse=True)
    for at, mask_Q in enumerate(masks.T):
        columns = np.flatnonzero(which.reshape(-1) == at)
        if not mask_Q.any():
            continue
        values = values_QC[np.ix_(mask_Q, columns)]
        lows, highs = _bca(values, resamples, confidence, seed)
        p_values = _randomisation_p(values, resamples, seed) if test else [None] * len(columns)
        for column, mean, low, high, p in zip(columns, values.mean(axis=0), lows, highs, p_values, strict=True):
            found[column] = Estimate(
                float(mean), float(low), float(high), int(mask_Q.sum()), None if p is None else float(p)
            )
    return found


def _bca(values_nC: np.ndarray, resamples: int, confidence: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    means_C = np.round(values_nC.mean(axis=0), DECIMALS)
    resampled_BC = _resampled_means(values_nC, resamples, seed)
    below_C = ((resampled_BC < means_C).mean(axis=0) + (resampled_BC <= means_C).mean(axis=0)) / 2  # ties count half
    lows, highs = np.empty_like(means_C), np.empty_like(means_C)
    tail = (1 - confidence) / 2
    for c, (below, acceleration) in enumerate(zip(below_C, _acceleration(values_nC), strict=True)):
        bias = _NORMAL.inv_cdf(min(max(float(below), 1 / (2 * resamples)), 1 - 1 / (2 * resamples)))
        levels = [_adjusted(tail, bias, acceleration), _adjusted(1 - tail, bias, acceleration)]
        lows[c], highs[c] = np.quantile(resampled_BC[:, c], levels)
    return lows, highs


def _adjusted(level: float, bias: float, acceleration: float) -> float:
    reach = bias + _NORMAL.inv_cdf(level)
    return _NORMAL.cdf(bias + reach / max(1 - acceleration * reach, 1e-6))


def _acceleration(values_nC: np.ndarray) -> np.ndarray:
    """Skewness of the mean's jackknife values / 6; 0 where all values are equal."""
    away = values_nC - values_nC.mean(axis=0)
    squares = (away**2).sum(axis=0)
    flat = squares <= 1e-24
    return np.where(flat, 0.0, (away**3).sum(axis=0) / (6 * np.where(flat, 1.0, squares) ** 1.5))


def _resampled_means(values_nC: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(B, C) means of B samples of n queries drawn with replacement; one draw of queries serves all columns."""
    n = len(values_nC)
    random = np.random.default_rng(seed)
    means = np.empty((resamples, values_nC.shape[1]))
    step = max(1, CHUNK_ELEMENTS // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = random.integers(0, n, (size, n)) + (np.arange(size) * n)[:, None]
        counts = np.bincount(drawn.reshape(-1), minlength=size * n).reshape(size, n)
        means[start : start + size] = np.round(counts @ values_nC / n, DECIMALS)
    return means


def _randomisation_p(differences_nC: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Share of random sign patterns whose mean is at least as far from 0 (the observed one counts as one of them)."""
    n = len(differences_nC)
    random = np.random.default_rng([seed, 1])
    observed = np.abs(differences_nC.sum(axis=0)) - 1e-9
    at_least = np.ones(differences_nC.shape[1])
    step = max(1, CHUNK_ELEMENTS // n)
    for start in range(0, resamples, step):
        signs = random.integers(0, 2, (min(step, resamples - start), n), dtype=np.int8) * 2.0 - 1.0
        at_least += (np.abs(signs @ differences_nC) >= observed).sum(axis=0)
    return at_least / (resamples + 1)
