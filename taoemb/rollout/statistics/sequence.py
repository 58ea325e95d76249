"""What all statistics here return: an interval at every sample size, right at all of them at once.

A confidence sequence at level 1 - alpha holds the truth at *every* n together with probability 1 - alpha. So one
may look after each unit and stop when one likes, which a usual confidence interval does not allow (Howard, Ramdas,
McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics
49).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sides:
    """Error probability of each end of an interval: that `low` ever passes the truth, and that `high` does."""

    low: float
    high: float

    @property
    def alpha(self) -> float:
        """Of the interval as a whole."""
        return self.low + self.high


@dataclass(frozen=True)
class ConfidenceSequence:
    """Estimate and interval after each of n units (or at the looks asked for): arrays of one length, without NaN.

    While nothing is known, `low` is -inf, `high` is inf and `center` is 0. `low <= center <= high` always.
    """

    center: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def last(self) -> tuple[float | None, float, float]:
        """Center, low and high now; the center is None while nothing is known."""
        if not len(self.center) or np.isinf(self.low[-1]):
            return None, -np.inf, np.inf
        return float(self.center[-1]), float(self.low[-1]), float(self.high[-1])


def sides_of(alpha: float | Sides) -> Sides:
    """Both sides of a level; a number is split evenly. Raises ValueError unless each side lies in (0, 1)."""
    sides = alpha if isinstance(alpha, Sides) else Sides(alpha / 2, alpha / 2)
    if not (0 < sides.low < 1 and 0 < sides.high < 1):
        raise ValueError(f"alpha {alpha}: each side must lie between 0 and 1")
    return sides


def looks_of(at: np.ndarray | None, n: int) -> np.ndarray:
    """Sample sizes to answer for: 1 … n, or those given (growing, within 0 … n)."""
    if at is None:
        return np.arange(1, n + 1)
    looks = np.asarray(at, dtype=np.int64)
    if len(looks) and (looks.min() < 0 or looks.max() > n or np.any(np.diff(looks) < 0)):
        raise ValueError(f"at: looks must grow and lie within 0 … {n}")
    return looks


def cumulated(values: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """Sum of the first L values for each look L."""
    return np.concatenate([[0.0], np.cumsum(values)])[looks]
