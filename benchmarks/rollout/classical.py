"""The usual tests, for comparison only: right at one sample size that was chosen before, wrong under peeking."""

import math
from statistics import NormalDist

import numpy as np


def z_scores(y: np.ndarray, a: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Welch's z of candidate minus control at each look; 0 while an arm has fewer than two units or does not vary."""
    a = a.astype(np.float64)
    stats = []
    for arm in (a, 1 - a):
        n, total, squares = (np.cumsum(part)[at - 1] for part in (arm, arm * y, arm * y**2))
        safe = np.maximum(n, 2)
        mean = total / safe
        stats.append((n, mean, np.maximum(squares / safe - mean**2, 0) / safe))
    (n1, mean1, var1), (n0, mean0, var0) = stats
    spread = np.sqrt(var1 + var0)
    usable = (np.minimum(n1, n0) >= 2) & (spread > 0)
    return np.where(usable, (mean1 - mean0) / np.where(usable, spread, 1.0), 0.0)


def planned_units(lift: float, deviation: float, alpha: float, power: float) -> int:
    """Units of both arms that a one-sided test of this power needs, known lift and deviation."""
    normal = NormalDist()
    reach = normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)
    return math.ceil(4 * (reach * deviation / lift) ** 2)
