"""How a rollout ends other than by a promotion: time-outs, verdicts and people, also where its place fails.

A place that fails again and again (an API server that is away, a refused write) never keeps a rollout from ending: the
functions here raise its error only while no time is up and no look sends the rollout back.
"""

from collections.abc import Callable
from dataclasses import replace

from taoemb.errors import TaoembError
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import Phase, Request, RolloutState, moved
from taoemb.rollout.verdict import Verdict

_NAMED = 3  # more reasons than that are counted; the verdict on record has each
Look = Callable[[RolloutState, float], Verdict]
"""Measures the rollout as it stands at that time, judges it, and keeps both on record."""


def ending(state: RolloutState, ends_as: Phase, reason: str, now: float) -> RolloutState:
    """On its way back to the control."""
    return replace(moved(state, "RollingBack", reason, now), ends_as=ends_as, held=False)


def given_up(state: RolloutState, reason: str, now: float) -> RolloutState:
    """A rollout that can't go on: ended where nothing was touched yet, else on its way back."""
    return moved(state, "Failed", reason, now) if state.phase == "Pending" else ending(state, "Failed", reason, now)


def inconclusive(state: RolloutState, plan: Plan, reason: str, now: float) -> RolloutState:
    """Without a verdict: back to the control, or held for a person, as the plan says."""
    if plan.on_inconclusive == "rollback":
        return ending(state, "Inconclusive", reason, now)
    return replace(moved(state, "Inconclusive", reason, now), held=True)


def overdue(state: RolloutState, plan: Plan, now: float) -> RolloutState | None:
    """A step that can't even be measured ends in time too; None while it may go on."""
    if now - state.since <= plan.step_timeout_s:
        return None
    reason = f"step {state.step + 1} lasted longer than {plan.step_timeout_s:g} s ({state.message or 'not in place'})"
    return inconclusive(state, plan, reason, now)


def not_ready(state: RolloutState, plan: Plan, why: str, now: float) -> RolloutState | None:
    """A candidate that does not come up in time goes; None while it may."""
    if now - state.since <= plan.ready_timeout_s:
        return None
    return ending(state, "RolledBack", f"the candidate was not ready within {plan.ready_timeout_s:g} s: {why}", now)


def not_promoted(state: RolloutState, plan: Plan, error: TaoembError, now: float) -> RolloutState:
    """A promotion that its place refuses for as long as a step may last; raises `error` before that."""
    if now - state.since <= plan.step_timeout_s:
        raise error
    reason = f"the candidate could not be promoted within {plan.step_timeout_s:g} s: {error}"
    return ending(state, "RolledBack", reason, now)


def unseen(state: RolloutState, plan: Plan, look: Look, now: float, error: TaoembError) -> RolloutState:
    """Where a rollout stands whose place can't be seen. Raises `error` while nothing ends it."""
    if state.phase == "Stepping":
        return stuck(state, plan, look, now, error)
    if state.phase == "Promoting":
        return not_promoted(state, plan, error, now)
    ended: RolloutState | None = None
    if state.phase == "Deploying":
        ended = not_ready(state, plan, str(error), now)
    elif state.phase == "Pending" and now - state.since > plan.ready_timeout_s:
        reason = f"the control could not be seen for {plan.ready_timeout_s:g} s: {error}"
        ended = moved(state, "Failed", reason, now)
    if ended is None:
        raise error
    return ended


def stuck(state: RolloutState, plan: Plan, look: Look, now: float, error: TaoembError) -> RolloutState:
    """A step that can't see or move its place: it goes back when a look says so or its time is up; else raises `error`.

    What was not put in place is measured as the step before it.
    """
    served = state if state.shifted else replace(state, step=state.step - 1)
    if served.step >= 0 and look_is_due(state, plan, now):
        try:
            verdict = look(served, now)
        except TaoembError:
            verdict = None  # the failure of the place is the one to tell
        if verdict is not None and verdict.outcome == "rollback":
            return ending(state, "RolledBack", why(verdict, "rollback", plan), now)
    ended = overdue(replace(state, message=str(error)), plan, now)
    if ended is None:
        raise error
    return ended


def look_is_due(state: RolloutState, plan: Plan, now: float) -> bool:
    """Whether the time between two looks has passed."""
    return state.looked_at is None or now - state.looked_at >= plan.look_every_s


def asked(what: str, request: Request) -> str:
    """A person's request as a reason."""
    return f"{what} asked for: {request.why}" if request.why else f"{what} asked for"


def why(verdict: Verdict, points_to: str, plan: Plan) -> str:
    """The reasons that point that way, or all when none does; of many, the plan's metric and how many agree.

    What was found of the plan's metric is always told.
    """
    said = [reason for reason in verdict.reasons if reason.points_to == points_to] or list(verdict.reasons)
    main = [reason.text for reason in verdict.reasons if reason.check == plan.metric]
    agrees = any(reason.check == plan.metric for reason in said)
    if len(said) > _NAMED and agrees:
        return f"{main[0]}; so say {len(said) - 1} other checks"
    return "; ".join([*(reason.text for reason in said[:_NAMED]), *([] if agrees else main)])
