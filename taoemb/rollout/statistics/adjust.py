"""Guesses of each unit's value from what was known before it: they take noise away and never add bias.

The estimate of the effect stays exact whatever the guesses are, as long as they use earlier rows only. A regression
on covariates from before the rollout is CUPED (Deng, Xu, Kohavi and Walker 2013, "Improving the sensitivity of
online controlled experiments by utilizing pre-experiment data"), here refitted as rows come. Covariates may also come
from earlier rows of the rollout itself, such as the mean of the same query so far.
"""

import numpy as np

GROWTH = 1.1  # the regression is fitted again when there are so many times the rows
ROWS_A_COVARIATE = 10


def running_mean(y: np.ndarray, first: float) -> np.ndarray:
    """Mean of the rows before each one, counting `first` as one row."""
    return (first + np.cumsum(y) - y) / (1 + np.arange(len(y)))


def guesses(y: np.ndarray, x: np.ndarray | None, first: float) -> np.ndarray:
    """(n,) guess of each y from earlier rows: their mean, or a regression on covariates `x`, (n,) or (n, d).

    A NaN in `x` means not known (a new unit): it counts as the mean, and whether it is known is a covariate too.
    """
    m = running_mean(y, first)
    if x is None or not len(y):
        return m
    x_ND = _with_known(np.asarray(x, dtype=np.float64).reshape(len(y), -1))
    start = max(30, ROWS_A_COVARIATE * x_ND.shape[1])
    while start < len(y):
        end = min(len(y), int(start * GROWTH) + 1)
        mean, slope = regression(x_ND[:start], y[:start])
        m[start:end] += (x_ND[start:end] - mean) @ slope
        start = end
    return m


def earlier_in_group(y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n,) mean of the earlier y of the same group (`groups`: (n,) int codes), NaN for a group's first row.

    A covariate for :func:`guesses`: pages of one query resemble each other, whichever arm answered.
    """
    order = np.argsort(groups, kind="stable")
    sorted_y, sorted_groups = y[order], groups[order]
    starts = np.r_[True, sorted_groups[1:] != sorted_groups[:-1]] if len(y) else np.empty(0, dtype=bool)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(y)), 0)) if len(y) else np.empty(0, dtype=np.int64)
    before = np.cumsum(sorted_y) - sorted_y
    count = np.arange(len(y)) - first
    means = np.full(len(y), np.nan)
    means[order] = np.where(count > 0, (before - before[first]) / np.maximum(count, 1), np.nan)
    return means


def _with_known(x_ND: np.ndarray) -> np.ndarray:
    known = np.isfinite(x_ND)
    filled = np.where(known, x_ND, 0.0)
    return filled if known.all() else np.concatenate([filled, known.astype(np.float64)], axis=1)


def regression(x_ND: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the covariates and their slopes; a covariate that does not vary gets slope 0 (least norm)."""
    mean = x_ND.mean(axis=0)
    slope, *_ = np.linalg.lstsq(x_ND - mean, y - y.mean(), rcond=1e-10)
    return mean, slope
