"""The verdict on a rollout: a pure function of its plan, where it stands, and what was measured."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from taoemb.rollout.measurement.measured import Estimate, Measurement
from taoemb.rollout.measurement.page_metrics import GRADED
from taoemb.rollout.plan import ALL, LOWER_IS_BETTER, Plan
from taoemb.rollout.statistics.multiplicity import checks
from taoemb.rollout.wording import amount, measured, name, units

Outcome = Literal["promote", "continue", "rollback", "inconclusive"]
Pointer = Outcome | Literal["next step"]


@dataclass(frozen=True)
class Reason:
    """One check: what it is, what it found, and which way it points."""

    check: str
    """E.g. `item_goodrate`, `item_goodrate on negation`, `sample ratio`, `units`, `time`."""
    points_to: Pointer
    text: str
    """One sentence with its numbers."""


@dataclass(frozen=True)
class Verdict:
    """What to do now; `next_step` says that a rollout that continues goes on to its next step."""

    outcome: Outcome
    reasons: Sequence[Reason]
    next_step: bool = False
    units: int = 0
    """Measured in this step so far."""


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands when it is judged."""

    step: int
    """Index into the plan's steps."""
    in_step_s: float


def decide(plan: Plan, standing: Standing, measurement: Measurement) -> Verdict:
    """What to do now, with a reason for each check; docs/verdicts.md has the rules in words.

    Promotes at the last step only: the primary metric's interval lies above its goal, the interval of every judged
    guardrail excludes harm beyond its margin, and the step's minimum is met. Rolls back at any step: an interval lies
    wholly on the wrong side, the split is broken, or a page mixed two releases. Every reason either lets the rollout
    go forward, or holds it where it is (`continue`), or ends it.
    """
    forward: Pointer = "promote" if standing.step + 1 >= len(plan.steps) else "next step"
    reasons = [
        *_integrity(plan, measurement, forward),
        *_unanswered(plan, measurement, forward),
        _primary(plan, measurement, forward),
        *_guardrails(plan, measurement, forward),
        *_minimum(plan, standing, measurement, forward),
    ]
    pointers = {reason.points_to for reason in reasons}
    seen = _units(plan, measurement)
    if "rollback" in pointers:
        return Verdict("rollback", reasons, units=seen)
    if pointers == {forward}:
        outcome: Outcome = "promote" if forward == "promote" else "continue"
        return Verdict(outcome, reasons, next_step=forward == "next step", units=seen)
    reasons += _overdue(plan, standing)
    ends = any(reason.points_to == "inconclusive" for reason in reasons)
    return Verdict("inconclusive" if ends else "continue", reasons, units=seen)


@dataclass(frozen=True)
class _Gain:
    """An interval turned so that more is better: the smallest and the largest gain in it."""

    worst: float
    best: float


def _gain(estimate: Estimate) -> _Gain:
    if estimate.higher_is_better:
        return _Gain(estimate.low, estimate.high)
    return _Gain(-estimate.high, -estimate.low)


def _count(estimate: Estimate | None) -> int:
    return 0 if estimate is None else estimate.n_control + estimate.n_candidate


def _too_few_answers(plan: Plan, measurement: Measurement) -> bool:
    sampled = measurement.graded + measurement.unanswered
    return sampled > 0 and measurement.unanswered / sampled > plan.max_unanswered


def _undecided(plan: Plan, measurement: Measurement, metric: str) -> bool:
    """Whether a metric rests on the judge while the judge leaves too much open."""
    return metric in (*GRADED, "gsb") and _too_few_answers(plan, measurement)


def _integrity(plan: Plan, measurement: Measurement, forward: Pointer) -> Iterator[Reason]:
    if measurement.mismatches:
        text = f"{measurement.mismatches} pages came from an encoder and a collection of different releases"
        yield Reason("releases", "rollback", text)
    ratio = measurement.sample_ratio
    total = ratio.n_control + ratio.n_candidate
    counts = f"{ratio.n_candidate:,} of {units(total)} are the candidate's, {ratio.expected_candidate:,.1f} expected"
    against = f"(lowest p so far {ratio.p_value:.2g}, limit {plan.sample_ratio_alpha:g})"
    if ratio.p_value < plan.sample_ratio_alpha:
        yield Reason("sample ratio", "rollback", f"the split does not work: {counts} {against}")
    else:
        yield Reason("sample ratio", forward, f"the split works: {counts} {against}")


def _unanswered(plan: Plan, measurement: Measurement, forward: Pointer) -> Iterator[Reason]:
    if measurement.waiting_for_people:
        text = f"{measurement.waiting_for_people:,} pages wait for people; graded metrics end before the first of them"
        yield Reason("human grades", forward, text)
    if measurement.one_look is not None:
        low, high = (amount(plan.metric, bound, sign=True) for bound in measurement.one_look)
        text = f"{plan.metric}: ppi-python gives {low} to {high} at this look alone, which decides nothing"
        yield Reason("ppi-python", forward, text)
    if _too_few_answers(plan, measurement):
        sampled = measurement.graded + measurement.unanswered
        text = (
            f"the judge left {measurement.unanswered:,} of {sampled:,} pages open, more than "
            f"{100 * plan.max_unanswered:g} %: its metrics decide nothing"
        )
        yield Reason("unanswered", "continue", text)
    elif measurement.unanswered:
        text = f"{measurement.unanswered:,} pages that the judge left open count as the worst and the best they may be"
        yield Reason("unanswered", forward, text)
    yield from _answered_evenly(plan, measurement, forward)


def _answered_evenly(plan: Plan, measurement: Measurement, forward: Pointer) -> Iterator[Reason]:
    """Holds a rollout whose judge answers one arm more often: what it leaves open is no accident then."""
    ratio = measurement.answered_ratio
    if ratio is None or not measurement.unanswered:
        return
    counts = f"it answered {ratio.n_control:,} pages of the control and {ratio.n_candidate:,} of the candidate"
    against = f"(lowest p so far {ratio.p_value:.2g}, limit {plan.sample_ratio_alpha:g})"
    if ratio.p_value < plan.sample_ratio_alpha:
        text = f"the judge answers one arm more often: {counts} {against}; see what it leaves open, then start anew"
        yield Reason("answered pages", "continue", text)
    else:
        yield Reason("answered pages", forward, f"the judge answers both arms alike: {counts} {against}")


def _primary(plan: Plan, measurement: Measurement, forward: Pointer) -> Reason:
    estimate = measurement.find(plan.metric)
    if estimate is None or estimate.effect is None:
        return Reason(plan.metric, "continue", f"{plan.metric}: nothing measured yet")
    if _undecided(plan, measurement, plan.metric):
        return Reason(plan.metric, "continue", f"{plan.metric}: not decided with so many pages open")
    superiority, gain = plan.goal == "superiority", _gain(estimate)
    goal = plan.margin if superiority else -plan.margin
    said = f"{plan.metric} {measured(estimate)}"
    asked = _asked(plan)
    if gain.best < min(goal, 0.0):
        return Reason(plan.metric, "rollback", f"{said}: the candidate is worse; asked was {asked}")
    if gain.best < goal:
        return Reason(plan.metric, "inconclusive", f"{said}: {asked} is out of reach")
    if gain.worst > goal:
        return Reason(plan.metric, forward, f"{said}: {asked} is shown")
    if forward == "promote":
        return Reason(plan.metric, "continue", f"{said}: {asked} is not shown yet")
    return Reason(plan.metric, forward, f"{said}: no harm is shown")


def _units(plan: Plan, measurement: Measurement) -> int:
    """Units of the plan's metric that were measured in this step."""
    count = measurement.units_in_step
    return _count(measurement.find(plan.metric)) if count is None else count


def _asked(plan: Plan) -> str:
    better = "lower" if plan.metric in LOWER_IS_BETTER else "higher"
    if plan.goal == "non-inferiority":
        worse = "higher" if better == "lower" else "lower"
        return f"at most {amount(plan.metric, plan.margin)} {worse}"
    return f"more than {amount(plan.metric, plan.margin)} {better}" if plan.margin else f"a {better} value"


def _guardrails(plan: Plan, measurement: Measurement, forward: Pointer) -> Iterator[Reason]:
    slices = dict.fromkeys(estimate.slice for estimate in measurement.estimates)
    for metric, slice, margin in checks(plan, slices):
        check, estimate = name(metric, slice), measurement.find(metric, slice)
        limit = f"{amount(metric, margin)} worse"
        count = _count(estimate)
        if slice != ALL and count < plan.min_slice_units:
            text = f"{check}: {units(count)} of at least {plan.min_slice_units:,}, not judged"
            yield Reason(check, forward, text)
        elif estimate is None or estimate.effect is None:
            holds: Pointer = "continue" if forward == "promote" else forward
            yield Reason(check, holds, f"{check}: nothing measured yet")
        elif _undecided(plan, measurement, metric):
            yield Reason(check, "continue", f"{check}: not decided with so many pages open")
        else:
            yield _guardrail(check, estimate, margin, limit, forward)


def _guardrail(check: str, estimate: Estimate, margin: float, limit: str, forward: Pointer) -> Reason:
    gain, said = _gain(estimate), f"{check} {measured(estimate)}"
    if gain.best < -margin:
        return Reason(check, "rollback", f"{said}: more than {limit}")
    if gain.worst > -margin:
        return Reason(check, forward, f"{said}: not more than {limit}")
    if forward == "promote":
        return Reason(check, "continue", f"{said}: more than {limit} is not excluded yet")
    return Reason(check, forward, f"{said}: no harm is shown")


def _minimum(plan: Plan, standing: Standing, measurement: Measurement, forward: Pointer) -> Iterator[Reason]:
    step = plan.steps[standing.step]
    count = _units(plan, measurement)
    met: Pointer = forward if count >= step.min_units else "continue"
    yield Reason("units", met, f"{units(count)} measured at {step.percent:g} %, {step.min_units:,} asked for")
    if step.min_seconds:
        met = forward if standing.in_step_s >= step.min_seconds else "continue"
        yield Reason(
            "time", met, f"{standing.in_step_s:,.0f} s at {step.percent:g} %, {step.min_seconds:,g} s asked for"
        )


def _overdue(plan: Plan, standing: Standing) -> Iterator[Reason]:
    if standing.in_step_s > plan.step_timeout_s:
        percent = plan.steps[standing.step].percent
        text = f"{standing.in_step_s:,.0f} s at {percent:g} %: longer than {plan.step_timeout_s:,g} s"
        yield Reason("time", "inconclusive", text)


def to_json(verdict: Verdict) -> dict[str, Any]:
    """As a JSON object."""
    return dataclasses.asdict(verdict) | {"reasons": [dataclasses.asdict(reason) for reason in verdict.reasons]}
