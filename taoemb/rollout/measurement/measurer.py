"""Measures a rollout look by look: what was measured is added up and let go, so a look costs what is new.

`measure` says the same from all rows at once; the tests hold the two to each other. Plans that let people grade pages
are measured that way, as the judge's calibration needs every pair of grades.
"""

from collections import Counter
from collections.abc import Mapping
from zlib import crc32

import numpy as np

from taoemb.rollout.measurement.measure import measured_levels, mismatches
from taoemb.rollout.measurement.measured import Estimate, Measurement, SampleRatio
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.page_metrics import FREE, GRADED, OUTCOMES
from taoemb.rollout.measurement.paired import Paired, Pairing
from taoemb.rollout.measurement.sampler import GRADED_SHARE
from taoemb.rollout.measurement.series import Rows, Series
from taoemb.rollout.measurement.slicing import Slicer
from taoemb.rollout.plan import ALL, Plan
from taoemb.rollout.statistics.running import EarlierInGroup, RunningMean, RunningRatio
from taoemb.serving.traffic import ArmName

_PAIRED = ("gsb", "preference")


class Measurer:
    """What one rollout's units have shown so far; `take` adds those of `seen` that are new."""

    def __init__(self, plan: Plan, slicer: Slicer) -> None:
        self._plan, self._slicer = plan, slicer
        sides = measured_levels(plan, slicer)
        history = plan.history is not None
        self._means = {key: RunningMean(level) for key, level in sides.items() if key[0] in _PAIRED}
        self._pair_counts: Counter[tuple[str, str]] = Counter()
        self._series = {
            (metric, one): Series(metric, one, level, columns=1 + (history and metric == plan.metric))
            for (metric, one), level in sides.items()
            if metric not in _PAIRED and (metric != "bm25_overlap" or plan.catalogue is not None)
        }
        self._earlier = {metric: EarlierInGroup() for metric, _ in self._series}
        self._pairing = Pairing()
        self._ratio, self._answered = RunningRatio(), RunningRatio()
        self._steps: Counter[float] = Counter()
        """Units of the plan's metric by the share at which they came."""
        self._came, self._settled, self.closed = 0, 0, 0
        """How many of the rows that are there were taken in: of what pages show, of grades, and of events."""

    def take(self, seen: Observations, preferences: Paired) -> None:
        """Add what is new; `preferences` of the interleaved pages among the rows closed since."""
        everyone = np.arange(self._came, len(seen))
        p, candidate = seen.number("p"), seen.flag("candidate")
        self._ratio.add(candidate[everyone], p[everyone])
        columns = {"error_rate": seen.flag("error"), "empty_rate": seen.flag("empty"), **self._numbers(seen)}
        for name in FREE:
            self._add(seen, name, everyone, columns[name][everyone].astype(np.float64), p[everyone])
        known = everyone[~np.isnan(columns["bm25_overlap"][everyone])]
        self._add(seen, "bm25_overlap", known, columns["bm25_overlap"][known], np.full(len(known), GRADED_SHARE))
        closed = np.arange(self.closed, seen.closed)
        for name, event in OUTCOMES.items():
            self._add(seen, name, closed, seen.outcome(event)[closed].astype(np.float64), p[closed])
        self._add_pairs(seen, "preference", preferences)
        self._take_grades(seen, candidate)
        self._came, self.closed = len(seen), seen.closed

    @property
    def done(self) -> int:
        """How many rows, from the first, nothing will be read of again."""
        return min(self._came, self._settled, self.closed)

    def forgot(self, rows: int) -> None:
        """The observations let go of so many rows."""
        self._came, self._settled, self.closed = self._came - rows, self._settled - rows, self.closed - rows

    def measurement(
        self, seen: Observations, releases: Mapping[ArmName, str], now: float, step: int = 0
    ) -> Measurement:
        """The measurement at `now`; arguments as of `measure.measure`."""
        answered = self._answered
        pairs = [
            Estimate(metric, one, count, count, None, None, effect, low, high, self._means[metric, one].alpha)
            for (metric, one), count, (effect, low, high) in (
                (key, self._pair_counts[key], mean.interval()) for key, mean in self._means.items()
            )
        ]
        estimates = [*(series.estimate() for series in self._series.values()), *pairs]
        return Measurement(
            at=now,
            pages=sum(count for kind, count in seen.kinds.items() if not kind.forced),
            graded=answered.n_control + answered.n_candidate,
            unanswered=seen.unanswered(),
            estimates=sorted(estimates, key=lambda one: (one.metric, one.slice != ALL, one.slice)),
            sample_ratio=_ratio(self._ratio),
            answered_ratio=_ratio(answered) if answered.n_control + answered.n_candidate else None,
            mismatches=mismatches(seen.kinds, releases),
            waiting=len(seen.waiting()),
            units_in_step=self._steps[self._plan.steps[step].percent / 100],
        )

    def _numbers(self, seen: Observations) -> dict[str, np.ndarray]:
        return {name: seen.number(name) for name in ("latency_ms", "bm25_overlap")}

    def _take_grades(self, seen: Observations, candidate: np.ndarray) -> None:
        until = seen.graded_until()
        rows = self._settled + np.flatnonzero(seen.flag("sampled")[self._settled : until])
        half = np.full(len(rows), GRADED_SHARE)
        for name in GRADED:
            ends = (seen.number(f"{end}_{name}")[rows] for end in ("least", "most"))
            self._add(seen, name, rows, seen.number(name)[rows], half, *ends)
        answered = rows[~np.isnan(seen.number("item_goodrate")[rows])]
        self._answered.add(candidate[answered], half[: len(answered)])
        self._add_pairs(seen, "gsb", self._pairing.meet(seen, rows.tolist()))
        self._settled = until

    def _add(
        self,
        seen: Observations,
        metric: str,
        rows: np.ndarray,
        y: np.ndarray,
        p: np.ndarray,
        least: np.ndarray | None = None,
        most: np.ndarray | None = None,
    ) -> None:
        """New rows of one metric, for each slice that is measured."""
        if metric not in self._earlier:
            return
        if metric == self._plan.metric:
            self._steps.update(seen.number("p")[rows].tolist())
        low, high = y if least is None else least, y if most is None else most
        queries = [seen.arrivals[row].query for row in rows.tolist()]
        groups = np.array([crc32(one.encode()) % EarlierInGroup.BUCKETS for one in queries], dtype=np.int64)
        x = np.stack([self._earlier[metric].add((low + high) / 2, groups), seen.number("history")[rows]], axis=1)
        new = Rows(y, low, high, seen.flag("candidate")[rows], p, x)
        for (name, one), series in self._series.items():
            if name == metric:
                series.add(new.those(self._inside(one, queries)))

    def _add_pairs(self, seen: Observations, metric: str, pairs: Paired) -> None:
        queries = [seen.arrivals[row].query for row in pairs.rows.tolist()]
        if metric == self._plan.metric:
            self._steps.update(seen.number("p")[pairs.rows].tolist())
        least, most = (pairs.values if ends is None else ends for ends in (pairs.least, pairs.most))
        for (name, one), mean in self._means.items():
            if name == metric:
                inside = self._inside(one, queries)
                mean.add(least[inside], most[inside])
                self._pair_counts[name, one] += int(inside.sum())

    def _inside(self, one: str, queries: list[str]) -> np.ndarray:
        if one == ALL:
            return np.ones(len(queries), dtype=bool)
        return np.array([one in self._slicer.slices(query) for query in queries], dtype=bool)


def _ratio(ratio: RunningRatio) -> SampleRatio:
    return SampleRatio(ratio.n_control, ratio.n_candidate, ratio.expected, ratio.p_value)
