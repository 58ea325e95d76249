"""The sequences of `effect`, `bounded` and `sample_ratio` as they grow: a look costs its new units, and no row stays.

What a sequence says now depends on its past through a few sums: the capital of each bet, the sums of Z and of its
weights, and those of the regression behind its guesses. All are added up one row after the other, so how the rows come
in parts changes nothing, to the last bit. Against `effect.effect_sequence` only the order of adding differs.
"""

import numpy as np

from taoemb.rollout.statistics.adjust import GROWTH, ROWS_A_COVARIATE
from taoemb.rollout.statistics.asymptotic import brownian_radius
from taoemb.rollout.statistics.bounded import BETS, MOST, lowest_sum
from taoemb.rollout.statistics.effect import BURN_IN
from taoemb.rollout.statistics.missing import worst_and_best
from taoemb.rollout.statistics.sample_ratio import SHIFTS, log_ratios
from taoemb.rollout.statistics.sequence import Sides

_GROUP = 32  # factors multiplied before one logarithm is taken, as in `bounded`
_CHUNK = 1 << 15
Interval = tuple[float | None, float, float]
"""Center (None while nothing is known), low and high."""


class RunningCapital:
    """`bounded.log_capital` after all rows so far."""

    def __init__(self) -> None:
        self._sums = np.zeros(len(BETS))
        self._open = np.empty((0, len(BETS)))  # factors of a group that is not full
        self._worst = 0.0

    def add(self, deviations: np.ndarray, worst: np.ndarray) -> None:
        """More rows; arguments as in `bounded.log_capital`."""
        for start in range(0, len(deviations), _CHUNK):
            part = deviations[start : start + _CHUNK]
            factors = np.concatenate([self._open, np.maximum(1 + part[:, None] * BETS, 1 - MOST)])
            full = len(factors) // _GROUP * _GROUP
            groups = np.log(factors[:full].reshape(-1, _GROUP, len(BETS)).prod(axis=1))
            self._sums = _carried(self._sums, groups)[-1]
            self._open = factors[full:]
        if len(worst):
            self._worst = max(self._worst, float(worst.max()))

    def lowest(self, alpha: float) -> float:
        """The smallest sum of means that is not excluded."""
        capital = self._sums + np.log(self._open.prod(axis=0))
        capital[BETS * self._worst > MOST] = -np.inf
        return float(lowest_sum(capital[None, :], alpha)[0])


class RunningGuesses:
    """`adjust.guesses` row after row: whether a covariate is known always counts as a covariate too."""

    def __init__(self, columns: int, first: float | None) -> None:
        """`columns` of x; `first`: the guess before any row, None: the first value itself."""
        self._first, self._columns = first, 2 * columns
        self._n, self._total = 0, 0.0
        self._refit = max(30, ROWS_A_COVARIATE * self._columns)
        self._sums = np.zeros(1 + 2 * self._columns + self._columns**2)
        self._mean, self._slope = np.zeros(self._columns), np.zeros(self._columns)

    def add(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(n,) guesses of new rows; `x` (n, columns), NaN where not known."""
        if not len(y):
            return np.empty(0)
        if self._first is None:
            self._first = float(y[0])
        known = np.isfinite(x)
        x_ND = np.concatenate([np.where(known, x, 0.0), known.astype(np.float64)], axis=1)
        products = (x_ND[:, :, None] * x_ND[:, None, :]).reshape(len(y), -1)
        rows = np.concatenate([y[:, None], x_ND, x_ND * y[:, None], products], axis=1)
        found, start = np.empty(len(y)), 0
        while start < len(y):
            end = min(len(y), start + self._refit - self._n)
            sums = _carried(self._sums, rows[start:end])
            counts = 1 + self._n + np.arange(end - start)
            found[start:end] = (self._first + sums[:-1, 0]) / counts + (x_ND[start:end] - self._mean) @ self._slope
            self._sums, self._n = sums[-1], self._n + end - start
            if self._n == self._refit:
                self._fit()
                self._refit = int(self._n * GROWTH) + 1
            start = end
        return found

    def _fit(self) -> None:
        d, n = self._columns, self._n
        y_mean, mean = self._sums[0] / n, self._sums[1 : 1 + d] / n
        crossed = self._sums[1 + d : 1 + 2 * d] / n - mean * y_mean
        squares = self._sums[1 + 2 * d :].reshape(d, d) / n
        values, vectors = np.linalg.eigh(squares - np.outer(mean, mean))
        varies = values > 1e-10 * max(float(np.trace(squares)), 1e-300)
        weights = np.where(varies, 1 / np.where(varies, values, 1.0), 0.0)
        self._mean, self._slope = mean, vectors @ (weights * (vectors.T @ crossed))


class RunningEffect:
    """`effect.effect_sequence` of values with bounds, some of which may be missing, after all rows so far."""

    def __init__(self, sides: Sides, columns: int, bounds: tuple[float, float]) -> None:
        """`columns` of covariates."""
        self._sides, self._low, self._range = sides, bounds[0], bounds[1] - bounds[0]
        self._guesses = (RunningGuesses(columns, 0.5), RunningGuesses(columns, 0.5))
        self._down, self._up = RunningCapital(), RunningCapital()
        self._sums = np.zeros(2)  # of Z in the middle, and of the weights

    def add(self, least: np.ndarray, most: np.ndarray, a: np.ndarray, p: np.ndarray, x: np.ndarray) -> None:
        """More rows; values within `least` … `most`, `a` bool, `x` (n, columns)."""
        larger = np.maximum(p, 1 - p)
        treated, untreated = (1 - p) / larger, p / larger
        ends = []
        for y, guesses in zip(worst_and_best(least, most, a), self._guesses, strict=True):
            scaled = (y - self._low) / self._range
            m = np.clip(guesses.add(scaled, x), 0, 1)
            z = (scaled - m) * np.where(a, treated, -untreated)
            ends.append((z, m))
        (worst, m_worst), (best, m_best) = ends
        self._down.add(worst, np.maximum(m_worst * treated, (1 - m_worst) * untreated))
        self._up.add(-best, np.maximum((1 - m_best) * treated, m_best * untreated))
        added = np.stack([(worst + best) / 2, np.minimum(p, 1 - p)], axis=1)
        self._sums = _carried(self._sums, added)[-1]

    def interval(self) -> Interval:
        """What is known now."""
        total, weight = self._sums
        if weight <= 0:
            return None, -np.inf, np.inf
        low, high = self._down.lowest(self._sides.low), -self._up.lowest(self._sides.high)
        center = float(np.clip(total / weight, -1, 1))
        low, high = min(max(low / weight, -1.0), center), max(min(high / weight, 1.0), center)
        return center * self._range, float(low * self._range), float(high * self._range)


class RunningAverage:
    """`effect.effect_sequence` of values without bounds, after all rows so far."""

    def __init__(self, sides: Sides, columns: int) -> None:
        """`columns` of covariates."""
        self._sides, self._guesses = sides, RunningGuesses(columns, None)
        self._sums = np.zeros(8)  # z, w, z², wz, w², the clock, units of the candidate, units

    def add(self, y: np.ndarray, a: np.ndarray, p: np.ndarray, x: np.ndarray) -> None:
        """More rows, as in `RunningEffect.add`."""
        larger, w = np.maximum(p, 1 - p), np.minimum(p, 1 - p)
        z, clock = (y - self._guesses.add(y, x)) * (a - p) / larger, w / larger
        if len(y) and not self._sums[7]:
            z[0], w[0] = 0.0, 0.0  # the first unit has no guess
        added = np.stack([z, w, z**2, w * z, w**2, clock, a.astype(np.float64), np.ones(len(y))], axis=1)
        self._sums = _carried(self._sums, added)[-1]

    def interval(self) -> Interval:
        """What is known now."""
        total, weight, squares, crossed, weights, clock, candidates, units = self._sums
        if weight <= 0 or min(candidates, units - candidates) < BURN_IN:
            return None, -np.inf, np.inf
        tau = total / weight
        variance = np.array([squares - 2 * tau * crossed + tau**2 * weights])
        low, high = (
            float(brownian_radius(variance, np.array([clock]), alpha)[0]) / weight
            for alpha in (self._sides.low, self._sides.high)
        )
        if np.isinf(low):
            return None, -np.inf, np.inf
        return float(tau), float(tau - low), float(tau + high)


class RunningMean:
    """`bounded.mean_sequence` of values within -1 … 1 that may lie between two ends, after all rows so far."""

    def __init__(self, sides: Sides) -> None:
        self._sides, self.alpha = sides, sides.alpha
        self._ends = [(RunningGuesses(0, 0.5), RunningCapital()) for _ in range(2)]
        self._sums, self._n = np.zeros(3), 0  # guesses of either end, and the values in the middle

    def add(self, least: np.ndarray, most: np.ndarray) -> None:
        """More values."""
        found, none = [], np.empty((len(least), 0))
        for values, sign, (guesses, capital) in zip((least, most), (1, -1), self._ends, strict=True):
            scaled = (values + 1) / 2
            m = guesses.add(scaled, none)
            capital.add(sign * (scaled - m), m if sign > 0 else 1 - m)
            found.append(m)
        self._sums = _carried(self._sums, np.stack([*found, (least + most) / 2], axis=1))[-1]
        self._n += len(least)

    def interval(self) -> Interval:
        """What is known now."""
        if not self._n:
            return None, -np.inf, np.inf
        base_low, base_high, middle = self._sums
        (_, down), (_, up) = self._ends
        low = 2 * np.clip((base_low + down.lowest(self._sides.low)) / self._n, 0, 1) - 1
        high = 2 * np.clip((base_high - up.lowest(self._sides.high)) / self._n, 0, 1) - 1
        center = float(middle / self._n)
        return center, float(min(low, center)), float(max(high, center))


class RunningRatio:
    """`sample_ratio.sample_ratio_sequence` after all rows so far."""

    def __init__(self) -> None:
        self.n_control, self.n_candidate = 0, 0
        self._expected = np.zeros(1)
        self._total, self._most = np.zeros(len(SHIFTS)), 0.0

    @property
    def expected(self) -> float:
        """Number of the candidate's units by the shares."""
        return float(self._expected[0])

    @property
    def p_value(self) -> float:
        """The smallest so far."""
        return float(np.exp(-self._most))

    def add(self, a: np.ndarray, p: np.ndarray) -> None:
        """More units; `a` bool."""
        if not len(a):
            return
        shares, which = np.unique(p, return_inverse=True)
        table, cells = log_ratios(shares), 2 * which + a
        for start in range(0, len(a), _CHUNK):
            sums = _carried(self._total, table[cells[start : start + _CHUNK]])[1:]
            top = sums.max(axis=1)
            evidence = top + np.log(np.exp(sums - top[:, None]).mean(axis=1))
            self._total, self._most = sums[-1], max(self._most, float(evidence.max()))
        self._expected = _carried(self._expected, p[:, None])[-1]
        self.n_candidate += int(a.sum())
        self.n_control += int(len(a) - a.sum())


class EarlierInGroup:
    """`adjust.earlier_in_group` row after row, in flat memory: groups are told apart by `BUCKETS` numbers.

    Groups that share a number share a mean, which makes a guess worse and nothing wrong. Sums are of whole numbers, so
    that parts of any size add up to the same.
    """

    BUCKETS = 1 << 18
    _SCALE = 1 << 20

    def __init__(self) -> None:
        self._sums = np.zeros(self.BUCKETS, dtype=np.int64)
        self._counts = np.zeros(self.BUCKETS, dtype=np.int64)

    def add(self, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """(n,) mean of the earlier y of the same group, NaN for its first; `groups` (n,) within 0 … BUCKETS - 1."""
        if not len(y):
            return np.empty(0)
        order = np.argsort(groups, kind="stable")
        values, codes = np.rint(y[order] * self._SCALE).astype(np.int64), groups[order]
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
        first = np.repeat(starts, np.diff(np.r_[starts, len(codes)]))
        before = np.cumsum(values) - values
        sums = before - before[first] + self._sums[codes]
        counts = np.arange(len(codes)) - first + self._counts[codes]
        np.add.at(self._sums, codes, values)
        np.add.at(self._counts, codes, 1)
        found = np.full(len(y), np.nan)
        found[order] = np.where(counts > 0, sums / np.maximum(counts, 1) / self._SCALE, np.nan)
        return found


def _carried(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(1 + n, k) running sums that go on from `total`, added one row after the other."""
    return np.cumsum(np.concatenate([total[None, :], rows]), axis=0)
