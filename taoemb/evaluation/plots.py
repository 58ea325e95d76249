"""Geometry of the report's plots; the template draws it as inline SVG, so text stays text and nothing is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

WIDTH, LABELS, RIGHT = 540, 150, 46  # pixels: the whole plot, the slice names, the counts
NARROWEST = 0.02  # of an axis: smaller differences than this are drawn small
TOP, BOTTOM, LANE, GAP = 8, 24, 11, 9
COLOURS = ("#1f5fa8", "#d1641b", "#2a8c67", "#b0478f", "#7a6a1a", "#5b6fd6", "#4a4f57", "#a33b3b")


@dataclass(frozen=True)
class Mark:
    """One mean and its interval."""

    x: float
    x_low: float
    x_high: float
    y: float
    colour: str
    title: str


@dataclass(frozen=True)
class Forest:
    """Means with intervals, a row a slice and a lane a system."""

    width: int
    height: float
    plot_left: int
    plot_right: int
    rows: list[tuple[str, float, int]]  # slice, y, queries
    marks: list[Mark]
    ticks: list[tuple[float, str]]
    zero: float | None  # x of 0 when it is a line worth drawing


def forest(
    tables: Mapping[str, Mapping[str, Any]], slices: Sequence[str], colours: Mapping[str, str], *, signed: bool
) -> Forest:
    """Plot of one metric: `tables` maps a system to slice → {value, low, high, queries}; `signed` for differences."""
    cells = [table[name] for table in tables.values() for name in slices if name in table]
    lows, highs = [cell["low"] for cell in cells], [cell["high"] for cell in cells]
    low, high = min([*lows, 0.0] if signed else lows), max([*highs, 0.0] if signed else highs)
    if high - low < NARROWEST:
        low, high = low - NARROWEST / 2, high + NARROWEST / 2
    marks_at = nice_ticks(low, high)
    low, high = min(low, marks_at[0]), max(high, marks_at[-1])
    left, right = LABELS, WIDTH - RIGHT

    def x(value: float) -> float:
        return round(left + 6 + (right - left - 12) * (value - low) / (high - low), 1)

    lane_height = LANE * len(tables) + GAP
    rows, marks = [], []
    for at, name in enumerate(slices):
        top = TOP + at * lane_height
        queries = max((table[name]["queries"] for table in tables.values() if name in table), default=0)
        rows.append((name, top + lane_height / 2, queries))
        for lane, (system, table) in enumerate(tables.items()):
            if name in table:
                cell = table[name]
                title = f"{system}, {name}: {interval_text(cell, signed=signed)}, {cell['queries']} queries"
                y = top + GAP / 2 + LANE * (lane + 0.5)
                marks.append(Mark(x(cell["value"]), x(cell["low"]), x(cell["high"]), y, colours[system], title))
    ticks = [(x(tick), number(tick, signed=signed, digits=_digits(marks_at))) for tick in marks_at]
    height = TOP + lane_height * len(slices) + BOTTOM
    return Forest(WIDTH, height, left, right, rows, marks, ticks, x(0.0) if signed else None)


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that span [low, high], at most about `most` of them."""
    span = max(high - low, 1e-6)
    raw = span / (most - 1)
    power = 10.0 ** floor(log10(raw))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= raw * 0.999)
    first = floor(low / step + 1e-9)
    ticks = [first * step]
    while ticks[-1] < high - step * 1e-6:
        ticks.append(round((first + len(ticks)) * step, 10))
    return ticks if len(ticks) > 1 else [*ticks, ticks[0] + step]


def number(value: float, *, signed: bool = False, digits: int = 3) -> str:
    """A number as the report shows it, with a real minus sign."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", "−")


def interval_text(cell: Mapping[str, Any], *, signed: bool = False) -> str:
    """ "0.412 [0.380, 0.451]" """
    value, low, high = (number(cell[name], signed=signed) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _digits(ticks: Sequence[float]) -> int:
    step = ticks[1] - ticks[0]
    return max(0, min(4, -floor(log10(step) + 1e-9)))
