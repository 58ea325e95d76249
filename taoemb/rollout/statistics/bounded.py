"""Confidence sequences for sums and means of bounded values: the inequality behind every decision on relevance.

Let d_i be a value minus a guess made before it, and mu_i its mean given the past. For a bet lambda with 1 + lambda
d_i > 0,

    W_n = exp( sum_i log(1 + lambda d_i) - lambda sum_i mu_i )

never grows in expectation, because E[1 + lambda d_i] = 1 + lambda mu_i <= exp(lambda mu_i). The same holds for an
average of W over bets, so it ever reaches 1/alpha with probability alpha at most (Ville 1939): the sums of means
for which it has are left out. This is the capital process of betting (Waudby-Smith and Ramdas 2024, "Estimating
means of bounded random variables by betting", JRSS B 86, section 4) with the compensator of empirical-Bernstein
sequences (Howard et al. 2021, theorem 4). Using log(1 + lambda d) as it is, instead of its quadratic lower bound,
makes it tighter than those. Keeping each bet fixed makes it valid for the *average of the means so far*, so nothing
is assumed about how the means move in time.

The bets are mixed by a half-Cauchy weight on a geometric grid: one bet suits one sample size, the mixture suits
all. A bet that could lose more than everything (the values' bounds grow) is given up: its part of the capital
counts as lost.
"""

import numpy as np

from taoemb.rollout.statistics.sequence import ConfidenceSequence, Sides, cumulated, looks_of, sides_of

RATIO = 1.5
BETS = 0.002 * RATIO ** np.arange(19)  # 0.002 … 2.96
SCALE = 0.2  # the bet in the middle: best when the values' summed squares are near 200
_WEIGHTS = BETS / (1 + (BETS / SCALE) ** 2)
LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
MOST = 0.99  # of the capital that a bet may lose at once
_GROUP = 32  # factors multiplied before one logarithm is taken: 32 of them neither overflow nor vanish
_CHUNK = 1 << 15  # rows held at once; a multiple of _GROUP


def log_capital(deviations: np.ndarray, worst: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
    """(looks, bets) sum of log(1 + lambda d_i) so far; -inf from where a bet was given up.

    `worst` (n,) >= -deviations, known before each: the largest loss that could have come.
    """
    n = len(deviations)
    looks = looks_of(at, n)
    edges = np.union1d(looks[looks < n], np.arange(0, n, _GROUP))
    parts = []
    for start in range(0, n, _CHUNK):
        factors = np.maximum(1 + deviations[start : start + _CHUNK, None] * BETS, 1 - MOST)
        inside = edges[(edges >= start) & (edges < start + _CHUNK)] - start
        parts.append(np.log(np.multiply.reduceat(factors, inside, axis=0)))
    totals = np.cumsum(np.concatenate([np.zeros((1, len(BETS))), *parts]), axis=0)
    sums = totals[np.searchsorted(edges, looks)]
    worst_so_far = np.concatenate([[0.0], np.maximum.accumulate(worst)])[looks]
    sums[BETS * worst_so_far[:, None] > MOST] = -np.inf
    return sums


def lowest_sum(log_capital_LB: np.ndarray, alpha: float) -> np.ndarray:
    """The smallest sum of means that the capital does not exclude at `alpha`, for each look.

    Root of log sum_b weight_b exp(capital_b - lambda_b s) = log 1/alpha: convex and falling in s, so Newton's
    method from the left climbs to it and stays conservative at every step.
    """
    weighted = log_capital_LB + LOG_WEIGHTS
    target = -np.log(alpha)
    s = np.max((weighted - target) / BETS, axis=1)
    for _ in range(50):
        terms = weighted - BETS * s[:, None]
        top = terms.max(axis=1, keepdims=True)
        shares = np.exp(terms - top)
        total = shares.sum(axis=1)
        step = (top[:, 0] + np.log(total) - target) * total / (shares @ BETS)
        s = s + np.maximum(step, 0)
        if not len(s) or np.max(step) < 1e-9:
            break
    return s


def sum_bounds(
    deviations: np.ndarray,
    worst_down: np.ndarray,
    worst_up: np.ndarray,
    sides: Sides,
    at: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper confidence sequence of the sum of the deviations' conditional means, at each look.

    Each deviation lies within [-worst_down, worst_up], both known before it (arrays of shape (n,)).
    """
    low = lowest_sum(log_capital(deviations, worst_down, at), sides.low)
    high = -lowest_sum(log_capital(-deviations, worst_up, at), sides.high)
    return low, high


def mean_sequence(
    values: np.ndarray,
    *,
    alpha: float | Sides,
    bounds: tuple[float, float] = (0.0, 1.0),
    at: np.ndarray | None = None,
) -> ConfidenceSequence:
    """Confidence sequence of the mean of bounded values: the average of their conditional means so far.

    For interleaved preferences (candidate wins +1, ties 0, control wins -1) `bounds` is (-1, 1). Raises ValueError for
    values outside, NaN included.
    """
    low, high = bounds
    values = np.asarray(values, dtype=np.float64)
    if not np.all((values >= low) & (values <= high)):
        raise ValueError(f"values must lie within {low} … {high}")
    looks = looks_of(at, len(values))
    scaled = (values - low) / (high - low)
    counts = np.arange(len(values))
    guesses = (0.5 + np.cumsum(scaled) - scaled) / (1 + counts)
    bounds_low, bounds_high = sum_bounds(scaled - guesses, guesses, 1 - guesses, sides_of(alpha), looks)
    n = np.maximum(looks, 1)
    base = cumulated(guesses, looks)
    known = looks > 0
    center = np.where(known, low + (high - low) * cumulated(scaled, looks) / n, 0.0)
    lows = low + (high - low) * np.clip((base + bounds_low) / n, 0, 1)
    highs = low + (high - low) * np.clip((base + bounds_high) / n, 0, 1)
    return ConfidenceSequence(
        center, np.minimum(np.where(known, lows, -np.inf), center), np.maximum(np.where(known, highs, np.inf), center)
    )
