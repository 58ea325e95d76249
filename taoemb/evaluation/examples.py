"""Picks the queries that a reader should look at: where the release gained most, and where it lost."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from taoemb.evaluation.measured import Measured

QUERIES, PLACES = 5, 10


@dataclass(frozen=True)
class Result:
    """One place of a ranking; grade 0: not judged, neither by people nor by the judge."""

    rank: int
    title: str
    grade: int
    by_judge: bool


@dataclass(frozen=True)
class Example:
    """One query with the top results of each system shown."""

    query: str
    slices: tuple[str, ...]
    values: Mapping[str, float]  # system → the metric of this query
    results: Mapping[str, list[Result]]


def pick(measured: Measured, metric: str, subject: str, baseline: str | None) -> tuple[list[Example], list[Example]]:
    """The queries with the greatest gains and the greatest losses of `metric` against the baseline.

    Without a baseline: the queries with the highest and the lowest values.
    """
    column = measured.values[subject][metric]
    if baseline is not None:
        column = column - measured.values[baseline][metric]
    shown = [subject] if baseline is None else [baseline, subject]
    order = np.argsort(np.where(np.isnan(column), 0.0, column), kind="stable")
    defined = order[~np.isnan(column[order])]
    if baseline is not None:
        best = [at for at in defined[::-1][:QUERIES] if column[at] > 0]
        worst = [at for at in defined[:QUERIES] if column[at] < 0]
    else:
        best = list(defined[::-1][: min(QUERIES, len(defined) // 2)])
        worst = list(defined[: min(QUERIES, (len(defined) + 1) // 2)])
    return [_example(measured, at, metric, shown) for at in best], [
        _example(measured, at, metric, shown) for at in worst
    ]


def _example(measured: Measured, at: int, metric: str, shown: list[str]) -> Example:
    row = measured.query_rows[at]
    return Example(
        query=measured.data.queries.texts[row],
        slices=tuple(name for name in measured.data.queries.slices[row] if name in measured.masks),
        values={name: float(measured.values[name][metric][at]) for name in shown},
        results={name: _results(measured, at, name) for name in shown},
    )


def _results(measured: Measured, at: int, system: str) -> list[Result]:
    rows = measured.rankings[system].rows_QK[at, :PLACES]
    rows = rows[rows >= 0]
    human = measured.grades(system, slice(at, at + 1), PLACES)[0]
    judged = np.zeros(PLACES, dtype=np.int8)
    if system in measured.judge_grades:
        top = measured.judge_grades[system][at, :PLACES]
        judged[: len(top)] = top
    titles = measured.data.items.column("title").take(pa.array(rows)).to_pylist()
    return [
        Result(place + 1, title, int(human[place] or judged[place]), not human[place] and judged[place] > 0)
        for place, title in enumerate(titles)
    ]
