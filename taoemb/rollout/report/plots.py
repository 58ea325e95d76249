"""Geometry of the rollout report's plots; the template draws it as inline SVG, so nothing is loaded."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taoemb.evaluation.plots import nice_ticks, number
from taoemb.rollout.measurement.measured import Estimate
from taoemb.rollout.report.words import bounds, change

WIDTH, RIGHT = 420, 20  # pixels
MOST_POINTS = 300
_MARGIN = 46  # of the vertical axis' labels
_LABELS = 128  # of the slices' names
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_WIDEST = 4.0  # times the last interval's width: earlier, wider ones leave the picture
Ticks = list[tuple[float, str]]


@dataclass(frozen=True)
class Point:
    """An estimate at a time."""

    at: float
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class SequencePlot:
    """A confidence sequence over time: a band, a line, and levels to hold it against."""

    height: float
    left: float
    right: float
    band: str
    """Points of a polygon."""
    line: str
    """Points of a polyline."""
    last: tuple[float, float] | None
    zero: float
    goal: float | None
    """y of the level that the whole interval must pass."""
    x_ticks: Ticks
    y_ticks: Ticks


@dataclass(frozen=True)
class SplitPlot:
    """The candidate's share over time."""

    height: float
    left: float
    right: float
    area: str
    x_ticks: Ticks
    y_ticks: Ticks


@dataclass(frozen=True)
class ForestRow:
    """An effect on one slice."""

    name: str
    y: float
    units: int
    x: float
    x_low: float
    x_high: float
    direction: str
    """up, down or even: whether the interval excludes 0, and on which side."""
    title: str


@dataclass(frozen=True)
class ForestPlot:
    """Effects on slices, one a row."""

    height: float
    left: float
    right: float
    rows: Sequence[ForestRow]
    zero: float
    x_ticks: Ticks


def sequence_plot(points: Sequence[Point], goal: float | None, start: float, end: float) -> SequencePlot:
    """The plot of estimates in order of time; bounds may be infinite. `goal` in the metric's units."""
    points = _thinned(points)
    low, high = _range(points, goal)
    y_at = nice_ticks(low, high, 5)
    low, high = min(low, y_at[0]), max(high, y_at[-1])
    height, top, bottom = 190.0, 10.0, 24.0
    left, right = float(_MARGIN), float(WIDTH - RIGHT)

    def x(at: float) -> float:
        return round(left + (right - left) * (at - start) / max(end - start, 1e-9), 1)

    def y(value: float) -> float:
        clipped = min(max(value, low), high)
        return round(top + (height - top - bottom) * (high - clipped) / (high - low), 1)

    upper = [f"{x(p.at)},{y(p.high)}" for p in points]
    lower = [f"{x(p.at)},{y(p.low)}" for p in reversed(points)]
    inside = [p for p in points if low <= p.effect <= high]
    return SequencePlot(
        height,
        left,
        right,
        " ".join(upper + lower),
        " ".join(f"{x(p.at)},{y(p.effect)}" for p in inside),
        (x(points[-1].at), y(points[-1].effect)) if points else None,
        y(0.0),
        None if goal is None else y(goal),
        _time_ticks(start, end, x),
        [(y(value), number(value, signed=True, digits=_digits(y_at))) for value in y_at],
    )


def split_plot(changes: Sequence[tuple[float, float]], start: float, end: float) -> SplitPlot:
    """The plot of (time, percent) changes, each of which holds until the next."""
    height, top, bottom = 110.0, 10.0, 24.0
    left, right = float(_MARGIN), float(WIDTH - RIGHT)
    most = max([10.0, *(percent for _, percent in changes)])
    y_at = nice_ticks(0.0, most, 4)

    def x(at: float) -> float:
        return round(left + (right - left) * (at - start) / max(end - start, 1e-9), 1)

    def y(percent: float) -> float:
        return round(top + (height - top - bottom) * (1 - percent / y_at[-1]), 1)

    corners, level = [f"{x(start)},{y(0)}"], 0.0
    for at, percent in changes:
        corners += [f"{x(at)},{y(level)}", f"{x(at)},{y(percent)}"]
        level = percent
    corners += [f"{x(end)},{y(level)}", f"{x(end)},{y(0)}"]
    y_ticks = [(y(value), f"{value:g} %") for value in y_at]
    return SplitPlot(height, left, right, " ".join(corners), _time_ticks(start, end, x), y_ticks)


def forest_plot(estimates: Sequence[Estimate], scale: float) -> ForestPlot | None:
    """The plot of one metric's effects on slices, times `scale`.

    Those with infinite bounds are left out; None when all are.
    """
    known = [one for one in estimates if one.effect is not None and math.isfinite(one.high - one.low)]
    if not known:
        return None
    lows, highs = [scale * one.low for one in known], [scale * one.high for one in known]
    x_at = nice_ticks(min([0.0, *lows]), max([0.0, *highs]), 5)
    left, right = float(_LABELS), float(WIDTH - 44)

    def x(value: float) -> float:
        return round(left + 6 + (right - left - 12) * (value - x_at[0]) / (x_at[-1] - x_at[0]), 1)

    rows = []
    for at, (one, low, high) in enumerate(zip(known, lows, highs, strict=True)):
        assert one.effect is not None
        units = one.n_control + one.n_candidate
        title = f"{one.slice}: {change(one.effect, one.metric)} {bounds(one)}, {units} units"
        marks = (x(scale * one.effect), x(low), x(high))
        rows.append(ForestRow(one.slice, 20.0 + 22 * at, units, *marks, direction(one), title))
    ticks = [(x(value), number(value, signed=True, digits=_digits(x_at))) for value in x_at]
    return ForestPlot(20.0 + 22 * len(known) + 14, left, right, rows, x(0.0), ticks)


def direction(estimate: Estimate) -> str:
    """`up` when the whole interval is an improvement, `down` when it is a loss, else `even`."""
    better, worse = estimate.low > 0, estimate.high < 0
    if not estimate.higher_is_better:
        better, worse = worse, better
    return "up" if better else "down" if worse else "even"


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """At most about MOST_POINTS, the last one always among them."""
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    return points[(len(points) - 1) % stride :: stride]


def _range(points: Sequence[Point], goal: float | None) -> tuple[float, float]:
    """What the vertical axis spans: 0, the goal, and the intervals that are not much wider than the last one."""
    finite = [p for p in points if math.isfinite(p.high - p.low)]
    widest = _WIDEST * (finite[-1].high - finite[-1].low) if finite else 0.0
    near = [p for p in finite if p.high - p.low <= widest]
    levels = [0.0] if goal is None else [0.0, goal]
    low, high = min([*levels, *(p.low for p in near)]), max([*levels, *(p.high for p in near)])
    return (low, high) if high - low > 1e-6 else (low - 0.05, high + 0.05)


def _time_ticks(start: float, end: float, x: Callable[[float], float]) -> Ticks:
    span = max(end - start, 1e-9)
    size, unit = next(((size, unit) for size, unit in _UNITS if span >= 2 * size), _UNITS[-1])
    return [
        (x(start + value * size), f"{value:g} {unit}")
        for value in nice_ticks(0.0, span / size, 6)
        if value * size <= span * 1.001
    ]


def _digits(ticks: Sequence[float]) -> int:
    step = ticks[1] - ticks[0]
    return max(0, min(4, -math.floor(math.log10(step) + 1e-9)))
