"""One metric on one slice as it grows: its units by arm, and the sequence of its effect."""

from dataclasses import dataclass

import numpy as np

from taoemb.rollout.measurement.measured import Estimate
from taoemb.rollout.measurement.page_metrics import BOUNDS
from taoemb.rollout.plan import LOWER_IS_BETTER
from taoemb.rollout.statistics.running import RunningAverage, RunningEffect
from taoemb.rollout.statistics.sequence import Sides


@dataclass(frozen=True)
class Rows:
    """New units of a metric in order: arrays (n,)."""

    y: np.ndarray  # nan: not known, it lies between least and most
    least: np.ndarray
    most: np.ndarray
    candidate: np.ndarray  # bool
    p: np.ndarray
    x: np.ndarray  # (n, 2) covariates: the mean of the query's earlier pages, and the unit's history

    def those(self, inside: np.ndarray) -> "Rows":
        """The units inside."""
        parts = (part[inside] for part in (self.y, self.least, self.most, self.candidate, self.p, self.x))
        return Rows(*parts)


class Series:
    """A metric on a slice; `add` takes new units, `estimate` says what all of them show."""

    def __init__(self, metric: str, slice: str, sides: Sides, columns: int) -> None:
        """`columns`: how many covariates count."""
        self.metric, self.slice, self.columns = metric, slice, columns
        self._alpha = sides.alpha
        bounds = BOUNDS[metric]
        self._bounded = None if bounds is None else RunningEffect(sides, columns, bounds)
        self._unbounded = RunningAverage(sides, columns) if bounds is None else None
        self._sums = np.zeros(4)  # units and sum of values, of the control and of the candidate

    def add(self, rows: Rows) -> None:
        """More units."""
        x = rows.x[:, : self.columns]
        if self._bounded is not None:
            self._bounded.add(rows.least, rows.most, rows.candidate, rows.p, x)
        if self._unbounded is not None:
            self._unbounded.add(rows.y, rows.candidate, rows.p, x)
        known = ~np.isnan(rows.y)
        y, candidate = rows.y[known], rows.candidate[known]
        added = np.stack([~candidate, np.where(candidate, 0.0, y), candidate, np.where(candidate, y, 0.0)], axis=1)
        self._sums = np.cumsum(np.concatenate([self._sums[None, :], added]), axis=0)[-1]

    def estimate(self) -> Estimate:
        """What is known now."""
        n_control, control, n_candidate, candidate = self._sums.tolist()
        running = self._bounded or self._unbounded
        assert running is not None
        effect, low, high = running.interval()
        return Estimate(
            metric=self.metric,
            slice=self.slice,
            n_control=int(n_control),
            n_candidate=int(n_candidate),
            control=control / n_control if n_control else None,
            candidate=candidate / n_candidate if n_candidate else None,
            effect=effect,
            low=low,
            high=high,
            alpha=self._alpha,
            higher_is_better=self.metric not in LOWER_IS_BETTER,
        )
