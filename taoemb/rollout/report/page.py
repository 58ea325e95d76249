"""The report of a rollout for people: one HTML file that needs nothing else, in which all text is escaped.

Beside it stands report.json with the same content for programs.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from taoemb.evaluation.new_files import new_files
from taoemb.evaluation.plots import number
from taoemb.pages import page_template
from taoemb.rollout import state, verdict
from taoemb.rollout.measurement import measured
from taoemb.rollout.measurement.measured import Estimate
from taoemb.rollout.measurement.page_metrics import DESCRIPTIONS
from taoemb.rollout.plan import ALL, LOWER_IS_BETTER, Plan
from taoemb.rollout.report import words as report_words
from taoemb.rollout.report.data import ReportData
from taoemb.rollout.report.examples import draw
from taoemb.rollout.report.plots import Point, direction, forest_plot, sequence_plot, split_plot
from taoemb.rollout.state import Change, RolloutState
from taoemb.rollout.statistics.multiplicity import checks

REPORT_FILE, JSON_FILE = "report.html", "report.json"
_EXAMPLES = 3  # of each kind
_LOOKS = 50
_SLICES = 30  # in the plot
_REASON_KINDS = {"promote": "pass", "next step": "pass", "continue": "run", "rollback": "fail", "inconclusive": "warn"}
_COLOURS = {"up": "#14733f", "down": "#b3261e", "even": "#59636e"}
_PAGE = page_template("taoemb.rollout.report", "report.html.j2")


@dataclass(frozen=True)
class Headline:
    """Where the rollout stands, in a word and a sentence."""

    kind: str
    title: str
    text: str


@dataclass(frozen=True)
class Guard:
    """One guardrail on one slice, and how it stands."""

    metric: str
    slice: str
    margin: float
    estimate: Estimate | None
    kind: str
    text: str


def write_report(data: ReportData, out: Path) -> Path:
    """Write report.html and report.json into the folder `out`; returns the HTML's path. Raises InputError."""
    with new_files(out) as folder:
        (folder / REPORT_FILE).write_text(render(data), encoding="utf-8")
        text = json.dumps(to_json(data), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / JSON_FILE).write_text(text + "\n", encoding="utf-8")
    return out / REPORT_FILE


def to_json(data: ReportData) -> dict[str, Any]:
    """The report for programs."""
    return {
        "name": data.state.name,
        "now": data.now,
        "plan": data.plan.model_dump(mode="json"),
        "state": state.to_json(data.state),
        "arms": [dataclasses.asdict(arm) for arm in data.arms],
        "looks": [
            {
                "at": look.at,
                "verdict": verdict.to_json(look.verdict),
                "measurement": measured.to_json(look.measurement),
            }
            for look in data.looks
        ],
        "examples": [dataclasses.asdict(example) for example in data.examples],
    }


def render(data: ReportData, refresh_s: int = 0) -> str:
    """The page; with `refresh_s` a browser asks for it again after so many seconds."""
    plan, last = data.plan, data.last
    estimates = last.measurement.estimates if last else ()
    changes = _shares(data.state.changes, plan)
    goal = _goal(plan)
    points = _points(data)
    current = estimates and last and last.measurement.find(plan.metric)
    examples = draw(data.examples, len(data.examples))
    return _PAGE.render(
        data=data,
        name=data.state.name,
        plan=plan,
        state=data.state,
        last=last,
        ratio=last.measurement.sample_ratio if last else None,
        refresh_s=refresh_s,
        headline=headline(data.state, plan, [reason.text for reason in last.verdict.reasons] if last else []),
        reasons=last.verdict.reasons if last else (),
        reason_kinds=_REASON_KINDS,
        sequence=sequence_plot(points, goal, data.started, data.until) if points else None,
        sequence_text=f"{report_words.change(current.effect, plan.metric)} {report_words.bounds(current)}"
        if current and current.effect is not None
        else "unknown",
        goal_up=plan.metric not in LOWER_IS_BETTER,
        split=split_plot([(c.at, share) for c, share in changes], data.started, data.until),
        percent=changes[-1][1] if changes else 0.0,
        totals=_by_importance([one for one in estimates if one.slice == ALL], plan),
        guards=guards(plan, estimates),
        slices=[one for one in estimates if one.slice != ALL],
        forest=forest_plot(
            _largest([one for one in estimates if one.metric == plan.metric]), report_words.scale(plan.metric)
        ),
        tally={kind: len(members) for kind, members in examples.items()},
        drawn={kind: members[:_EXAMPLES] for kind, members in examples.items()},
        changes=changes,
        looks=list(reversed(data.looks[-_LOOKS:])),
        plan_text=yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        colours=_COLOURS,
        grade_names=report_words.GRADES,
        words=report_words.WORDS,
        meanings=DESCRIPTIONS,
        shown=report_words.shown,
        change_of=report_words.change,
        unit=report_words.unit,
        bounds=report_words.bounds,
        level=report_words.level,
        p_value=report_words.p_value,
        count=report_words.count,
        utc=report_words.utc,
        number=number,
        direction=direction,
    )


def headline(now: RolloutState, plan: Plan, listed: Sequence[str]) -> Headline:
    """Where a rollout stands; why, unless the reasons that are `listed` below say it."""
    step = f"step {now.step + 1} of {len(plan.steps)}, {plan.steps[now.step].percent:g} % of the shoppers"
    kind, title = {
        "Pending": ("run", "Waiting to begin"),
        "Deploying": ("run", "Starting the candidate"),
        "Stepping": ("run", f"Running: {step}"),
        "Promoting": ("pass", "Promoting the candidate"),
        "Promoted": ("pass", "Promoted"),
        "RollingBack": ("fail", "Rolling back"),
        "RolledBack": ("fail", "Rolled back"),
        "Inconclusive": ("warn", "Inconclusive, traffic left as it was" if now.held else "Inconclusive, rolled back"),
        "Failed": ("fail", "Failed"),
    }[now.phase]
    why = now.message or now.reason
    return Headline(kind, title, "" if any(text in why for text in listed) else why)


def guards(plan: Plan, estimates: Sequence[Estimate]) -> list[Guard]:
    """Every check that the verdict makes beside its metric, and how it stands."""
    by_name = {(one.metric, one.slice): one for one in estimates}
    slices = dict.fromkeys(one.slice for one in estimates)
    found = [(metric, slice, margin) for metric, slice, margin in checks(plan, slices) if estimates]
    return [_guard(*check, by_name.get(check[:2]), plan.min_slice_units) for check in found]


def _guard(metric: str, slice: str, margin: float, one: Estimate | None, min_units: int) -> Guard:
    if one is None or one.effect is None:
        return Guard(metric, slice, margin, None, "", "not measured yet")
    worst, best = (one.low, one.high) if one.higher_is_better else (-one.high, -one.low)
    if slice != ALL and one.n_control + one.n_candidate < min_units:
        kind, text = "", "too few units to judge"
    elif best < -margin:
        kind, text = "fail", "broken"
    elif worst > -margin:
        kind, text = "pass", "holds"
    else:
        kind, text = "", "not known yet"
    return Guard(metric, slice, margin, one, kind, text)


def _goal(plan: Plan) -> float:
    """The level that the primary metric's whole interval must pass."""
    asked = plan.margin if plan.goal == "superiority" else -plan.margin
    return report_words.scale(plan.metric) * (-asked if plan.metric in LOWER_IS_BETTER else asked)


def _points(data: ReportData) -> list[Point]:
    """The deciding metric at each look, in the units that are shown."""
    found = [(look.at, look.measurement.find(data.plan.metric)) for look in data.looks]
    by = report_words.scale(data.plan.metric)
    return [
        Point(at, by * one.effect, by * one.low, by * one.high) for at, one in found if one and one.effect is not None
    ]


def _shares(changes: Sequence[Change], plan: Plan) -> list[tuple[Change, float]]:
    """Each change with the candidate's share from then on; a promoted candidate answers everybody."""
    share, found = 0.0, []
    for change in changes:
        if change.phase == "Stepping":
            share = plan.steps[change.step].percent
        elif change.phase == "Promoted":
            share = 100.0
        elif change.phase != "Promoting" and not (change.phase == "Inconclusive" and share):
            share = 0.0
        found.append((change, share))
    return found


def _by_importance(estimates: Sequence[Estimate], plan: Plan) -> list[Estimate]:
    """The deciding metric first, then what has units, in the order of the words."""
    order = list(report_words.WORDS)
    known = [one for one in estimates if one.metric == plan.metric or one.effect is not None]
    return sorted(known, key=lambda one: (one.metric != plan.metric, order.index(one.metric)))


def _largest(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The whole first, then the slices with the most units."""
    ordered = sorted(estimates, key=lambda one: (one.slice != ALL, -one.n_control - one.n_candidate, one.slice))
    return ordered[: _SLICES + 1]
