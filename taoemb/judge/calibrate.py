"""How far a judge can be trusted: its grades against human ones, overall and per slice.

A judge that gives reward or grades releases should be measured first, on judgments that it has not been trained on.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from taoemb.config import JudgeConfig
from taoemb.data.dataset import Dataset, Judgments, open_dataset
from taoemb.data.files import new_folder
from taoemb.errors import InputError, TaoembError
from taoemb.judge.agreement import CONFIDENCE, GOOD_GRADE, Graded, agreement, confusion, reliability
from taoemb.judge.client import JudgeClient
from taoemb.judge.local import asked_judge
from taoemb.judge.outputs import check_out
from taoemb.judge.probe import pairs_of, probe
from taoemb.progress import progress

ALL = "all"
PAIRS_AT_ONCE = 512
CALIBRATION, PAGE = "calibration.json", "calibration.html"


def calibrate(
    data: Path, config: JudgeConfig, out: Path, *, judge: Path | None = None, source: str | None = None
) -> dict[str, Any]:
    """Grade the judgments of the dataset folder `data` and write calibration.json and calibration.html to `out`.

    The judge is the endpoint `config.url`, or the folder `judge`, which is served here meanwhile; `source` keeps only
    the judgments of that source. Pairs that the judge leaves unanswered are counted and otherwise left out. Returns
    calibration.json's content. Raises InputError for bad input, TaoembError when the judge answers nothing or is away.
    """
    data, out = Path(data), Path(out)
    check_out(out, (CALIBRATION, PAGE))
    every = open_dataset(data, need=("items", "queries", "judgments"), every_judgment=True)
    dataset = replace(every, judgments=_wanted(every, source).settled())
    rows = np.arange(len(_judgments(dataset)))
    with asked_judge(config, judge, "calibrate") as client:
        release = client.release
        probe(client, pairs_of(dataset, rows))
        probs_P4 = _grade(client, dataset, rows)
    result = _summary(dataset, rows, probs_P4) | {"judge": {"release": release, "rubric": config.rubric}}
    with new_folder(out) as folder:
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (folder / CALIBRATION).write_text(text, encoding="utf-8")
        (folder / PAGE).write_text(_page(result), encoding="utf-8")
    return result


def _judgments(dataset: Dataset) -> Judgments:
    if dataset.judgments is None or not len(dataset.judgments):
        raise InputError(f"{dataset.root / 'judgments.parquet'}: holds no judgment to compare the judge with")
    return dataset.judgments


def _wanted(dataset: Dataset, source: str | None) -> Judgments:
    judgments = _judgments(dataset)
    if source is None:
        return judgments
    if source not in judgments.sources:
        known = ", ".join(sorted(set(judgments.sources)))
        raise InputError(f"{dataset.root / 'judgments.parquet'}: no judgment of source {source!r}; it has {known}")
    return judgments.of_source(source)


def _grade(client: JudgeClient, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """(P, 4) grade probabilities of the judgments at `rows`; NaN where unanswered."""
    judgments, parts, problem = _judgments(dataset), [], ""
    with progress("calibrate judge", len(rows)) as bar:
        for start in range(0, len(rows), PAIRS_AT_ONCE):
            part = rows[start : start + PAIRS_AT_ONCE]
            queries = [dataset.queries.texts[row] for row in judgments.query_rows[part]]
            judged = client.grade(queries, dataset.items.records(judgments.item_rows[part]))
            parts.append(judged.grade_probs)
            problem = problem or judged.problem
            bar.advance(len(part))
    probs_P4 = np.concatenate(parts)
    if np.isnan(probs_P4[:, 0]).all():
        raise TaoembError(f"the judge answered none of the pairs: {problem}")
    return probs_P4


def _summary(dataset: Dataset, rows: np.ndarray, probs_P4: np.ndarray) -> dict[str, Any]:
    judgments = _judgments(dataset)
    answered = ~np.isnan(probs_P4[:, 0])
    kept = rows[answered]
    graded = Graded(judgments.query_rows[kept], judgments.grades[kept], probs_P4[answered])
    slices = _slices(dataset, graded.queries)
    measured = {name: agreement(graded.take(inside)) for name, inside in slices.items()}
    return {
        "data": dataset.root.name,
        "pairs": len(rows),
        "queries": len(np.unique(judgments.query_rows[rows])),
        "unanswered": int((~answered).sum()),
        "grades": {str(grade): count for grade, count in sorted(Counter(graded.grades.tolist()).items())},
        "sources": dict(sorted(Counter(judgments.sources[row] or "unnamed" for row in rows).items())),
        "good_grade": GOOD_GRADE,
        "confidence": CONFIDENCE,
        "measures": {name: values | {"pairs": len(slices[name])} for name, values in measured.items()},
        "confusion": confusion(graded).tolist(),
        "reliability": reliability(graded),
    }


def _slices(dataset: Dataset, query_rows: np.ndarray) -> dict[str, np.ndarray]:
    """Slice → positions of its pairs: all first, then by number of pairs."""
    names = dataset.queries.slices
    members: dict[str, list[int]] = {}
    for position, row in enumerate(query_rows):
        for name in dict.fromkeys(names[row]):
            members.setdefault(name, []).append(position)
    members.pop(ALL, None)
    ordered = sorted(members, key=lambda name: (-len(members[name]), name))
    return {ALL: np.arange(len(query_rows))} | {name: np.array(members[name]) for name in ordered}


def _page(result: Mapping[str, Any]) -> str:
    from taoemb.pages import page_template

    return page_template("taoemb.judge", "calibration.html.j2").render(result=result, plot=_plot(result["reliability"]))


SIDE, MARGIN = 260, 44  # pixels of the reliability plot


def _plot(bins: list[dict[str, float | int]]) -> dict[str, Any]:
    """Geometry of the reliability plot: a circle a bin, its area by the number of pairs."""
    most = max((entry["pairs"] for entry in bins), default=1)

    def x(value: float) -> float:
        return round(MARGIN + SIDE * value, 1)

    def y(value: float) -> float:
        return round(10 + SIDE * (1 - value), 1)

    points = [
        {"x": x(b["predicted"]), "y": y(b["good"]), "r": round(3 + 9 * (b["pairs"] / most) ** 0.5, 1), **b}
        for b in bins
    ]
    ticks = [(value / 4, x(value / 4), y(value / 4)) for value in range(5)]
    return {"points": points, "ticks": ticks, "left": MARGIN, "right": MARGIN + SIDE, "top": 10, "bottom": 10 + SIDE}
