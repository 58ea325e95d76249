"""The effect of the candidate: a confidence sequence of the difference between two randomised arms.

Unit i came when the candidate's share was p_i and was assigned A_i (1: candidate) with that probability. With a
guess m_i of its value Y_i made from earlier units,

    Z_i = (Y_i - m_i) (A_i - p_i) / max(p_i, 1 - p_i)     has the mean     w_i tau_i,     w_i = min(p_i, 1 - p_i),

given the past, where tau_i is the true effect at that time: nothing about the guess, about drift of both arms or
about a changing split can bias it. Sums of Z_i / sums of w_i estimate the average effect so far, in which units of
the smaller arm count alike (up to 50 %: each unit of the candidate, against p/(1-p) of a unit of the control). For
bounded metrics the sequence is exact at every n (`bounded`); for others it holds for large samples (`asymptotic`).

Randomisation makes Z_i a martingale difference about its mean (Robins and Rotnitzky's augmented inverse-probability
weighting with known propensities; with covariates as in Waudby-Smith et al. 2024, section 3).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from taoemb.rollout.statistics.adjust import guesses
from taoemb.rollout.statistics.asymptotic import brownian_radius
from taoemb.rollout.statistics.bounded import log_capital, lowest_sum, sum_bounds
from taoemb.rollout.statistics.missing import worst_and_best
from taoemb.rollout.statistics.sequence import ConfidenceSequence, Sides, cumulated, looks_of, sides_of

BURN_IN = 50
"""Units that each arm must have before an asymptotic interval is given."""


def effect_sequence(
    y: np.ndarray,
    a: np.ndarray,
    p: np.ndarray,
    *,
    alpha: float | Sides,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    x: np.ndarray | None = None,
    at: np.ndarray | None = None,
    most: np.ndarray | None = None,
) -> ConfidenceSequence:
    """Candidate minus control, after each unit in the order of arrival.

    `y` (n,) the values, `a` (n,) true for the candidate, `p` (n,) the candidate's share in [0, 1] when the unit was
    assigned; `alpha`: of the interval, or of each side (multiplicity.levels); `bounds` of y, None when it has none;
    `x` (n,) or (n, d): covariates known before the rollout, NaN where not known; `at`: sample sizes to answer for
    (default: all of 1 … n); `most` (n,): the values lie between `y` and these, as when some are missing (`missing`).
    Costs O(n) time. Raises ValueError for values that are NaN or out of bounds, and for
    assignments that had no chance.
    """
    y, a, p = (np.asarray(one, dtype=np.float64) for one in (y, a, p))
    _check(y, a, p, bounds)
    sides, looks = sides_of(alpha), looks_of(at, len(y))
    if most is not None and not np.array_equal(most, y):
        return _within(y, np.asarray(most, dtype=np.float64), a, p, sides, bounds, x, looks)
    if bounds is None:
        return _unbounded(y, a, p, guesses(y, x, float(y[0]) if len(y) else 0.0), sides, looks)
    low, high = bounds
    scaled = (y - low) / (high - low)
    m = np.clip(guesses(scaled, x, 0.5), 0, 1)
    unit = _bounded(scaled, a, p, m, sides, looks)
    return ConfidenceSequence(*(part * (high - low) for part in (unit.center, unit.low, unit.high)))


def _within(
    least: np.ndarray,
    most: np.ndarray,
    a: np.ndarray,
    p: np.ndarray,
    sides: Sides,
    bounds: tuple[float, float] | None,
    x: np.ndarray | None,
    looks: np.ndarray,
) -> ConfidenceSequence:
    """Each end from the values that are worst for it; the center in the middle."""
    if bounds is None or np.any(least > most):
        raise ValueError("values that are missing need bounds, and least may not exceed most")
    _check(most, a, p, bounds)
    ends = []
    for y in worst_and_best(least, most, a == 1):
        scaled = (y - bounds[0]) / (bounds[1] - bounds[0])
        ends.append(_Steps.of(scaled, a, p, np.clip(guesses(scaled, x, 0.5), 0, 1)))
    worst, best = ends
    low = lowest_sum(log_capital(worst.z, worst.down, looks), sides.low)
    high = -lowest_sum(log_capital(-best.z, best.up, looks), sides.high)
    middle = cumulated((worst.z + best.z) / 2, looks)
    unit = _ratio(middle, low, high, cumulated(np.minimum(p, 1 - p), looks), limit=1.0)
    return ConfidenceSequence(*(part * (bounds[1] - bounds[0]) for part in (unit.center, unit.low, unit.high)))


def arm_means(y: np.ndarray, a: np.ndarray) -> tuple[float | None, float | None]:
    """Plain means of control and candidate, for display; None for an arm without units."""
    y, candidate = np.asarray(y, dtype=np.float64), np.asarray(a, dtype=bool)
    control_y, candidate_y = y[~candidate], y[candidate]
    return (
        float(control_y.mean()) if len(control_y) else None,
        float(candidate_y.mean()) if len(candidate_y) else None,
    )


def _check(y: np.ndarray, a: np.ndarray, p: np.ndarray, bounds: tuple[float, float] | None) -> None:
    if not (y.shape == a.shape == p.shape == (len(y),)):
        raise ValueError("y, a and p must have one value for each unit")
    low, high = (-np.finfo(np.float64).max, np.finfo(np.float64).max) if bounds is None else bounds
    if not np.all((y >= low) & (y <= high)):
        raise ValueError(f"y must be finite and lie within {low} … {high}; leave out units without a value")
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("p must lie within 0 … 1")
    if np.any((a == 1) & (p == 0)) or np.any((a != 1) & (p == 1)):
        raise ValueError("a unit was assigned to an arm that had no share; leave out forced units")


def _bounded(
    y: np.ndarray, a: np.ndarray, p: np.ndarray, m: np.ndarray, sides: Sides, looks: np.ndarray
) -> ConfidenceSequence:
    """For y in [0, 1]."""
    steps = _Steps.of(y, a, p, m)
    low, high = sum_bounds(steps.z, steps.down, steps.up, sides, looks)
    return _ratio(cumulated(steps.z, looks), low, high, cumulated(np.minimum(p, 1 - p), looks), limit=1.0)


@dataclass(frozen=True)
class _Steps:
    """What each unit adds to the sum of Z, and how far it could have gone down and up, known before it: (n,) each."""

    z: np.ndarray
    down: np.ndarray
    up: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray, a: np.ndarray, p: np.ndarray, m: np.ndarray) -> Self:
        """For y and guesses m in [0, 1]."""
        larger = np.maximum(p, 1 - p)
        treated, untreated = (1 - p) / larger, p / larger
        down = np.maximum(m * treated, (1 - m) * untreated)
        up = np.maximum((1 - m) * treated, m * untreated)
        return cls((y - m) * np.where(a == 1, treated, -untreated), down, up)


def _unbounded(
    y: np.ndarray, a: np.ndarray, p: np.ndarray, m: np.ndarray, sides: Sides, looks: np.ndarray
) -> ConfidenceSequence:
    larger = np.maximum(p, 1 - p)
    z = (y - m) * (a - p) / larger
    w = np.minimum(p, 1 - p)
    z[:1], w[:1] = 0.0, 0.0  # the first unit has no guess
    sums, weights = cumulated(z, looks), cumulated(w, looks)
    tau = sums / np.where(weights > 0, weights, 1.0)
    variance = cumulated(z**2, looks) - 2 * tau * cumulated(w * z, looks) + tau**2 * cumulated(w**2, looks)
    clock = cumulated(w / larger, looks)
    arms = np.minimum(cumulated(a, looks), looks - cumulated(a, looks))
    ready = arms >= BURN_IN
    low = np.where(ready, sums - brownian_radius(variance, clock, sides.low), -np.inf)
    high = np.where(ready, sums + brownian_radius(variance, clock, sides.high), np.inf)
    return _ratio(sums, low, high, weights, limit=np.inf)


def _ratio(
    sums: np.ndarray, low: np.ndarray, high: np.ndarray, weights: np.ndarray, limit: float
) -> ConfidenceSequence:
    known = weights > 0
    divisor = np.where(known, weights, 1.0)
    center = np.where(known, np.clip(sums / divisor, -limit, limit), 0.0)
    lows = np.where(known, np.maximum(low / divisor, -limit), -np.inf)
    highs = np.where(known, np.minimum(high / divisor, limit), np.inf)
    return ConfidenceSequence(center, np.minimum(lows, center), np.maximum(highs, center))
