"""Moves a rollout: one tick reads where it stands and what is there, and does at most one thing about it.

Level-triggered. A phase names a wanted world (Deploying: a candidate without traffic; Stepping: the step's share;
Promoting, RollingBack: their ends). A tick either brings the world nearer to what the *stored* phase wants, by a call
that may be repeated, or moves on to another phase and touches nothing. So every act follows from a state that was
stored before it, and a process that is stopped anywhere goes on from what it finds. The caller stores what a tick
returns before it ticks again.
"""

from contextlib import suppress
from dataclasses import replace

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Backend, Observed
from taoemb.rollout.endings import (
    Look,
    asked,
    ending,
    given_up,
    inconclusive,
    look_is_due,
    not_promoted,
    not_ready,
    overdue,
    stuck,
    unseen,
    why,
)
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import RolloutState, begin, from_json, moved, noted, to_json, with_request
from taoemb.rollout.verdict import Verdict

__all__ = ["Look", "RolloutState", "begin", "from_json", "given_up", "tick", "to_json", "with_request"]


def tick(state: RolloutState, plan: Plan, backend: Backend, look: Look, now: float) -> RolloutState:
    """The state after one tick; equal to `state` when there is nothing to do but wait.

    `now` is in Unix seconds. Raises TaoembError when the backend fails: store nothing and tick again later. A backend
    that fails again and again still lets a rollout end by its time-outs, by a verdict and by a person's rollback.
    """
    if state.ended:
        return state
    if state.phase == "RollingBack":
        return _roll_back(state, backend, now)
    request = state.request
    if request is not None and request.action == "rollback":
        return ending(state, "RolledBack", asked("rollback", request), now)
    try:
        seen = backend.observe()
    except TaoembError as error:
        return unseen(state, plan, look, now, error)
    if request is not None and seen.candidate == state.candidate.release:
        return replace(moved(state, "Promoting", asked("promotion", request), now), held=False)
    if state.phase == "Inconclusive":
        return replace(state, message=f"waiting for the candidate: {_absent(seen)}")
    if state.phase == "Pending":
        return _begin_deploying(state, plan, seen, now)
    if state.phase == "Promoting":
        return _promote(state, plan, backend, seen, now)
    if seen.control is not None and seen.control != state.control:
        reason = f"the control answers with {seen.control[:16]}, not with {state.control[:16]} any more"
        return ending(state, "Failed", reason, now)
    if state.phase == "Deploying":
        return _deploy(state, plan, backend, now)
    return _step(state, plan, backend, look, seen, now)


def _begin_deploying(state: RolloutState, plan: Plan, seen: Observed, now: float) -> RolloutState:
    """Nothing was touched yet, so that a rollout that can't begin fails here without a rollback."""
    if seen.control is None:
        if now - state.since > plan.ready_timeout_s:
            reason = f"the control did not answer for {plan.ready_timeout_s:g} s: {seen.message}"
            return moved(state, "Failed", reason, now)
        return replace(state, message=f"waiting for the control: {seen.message}")
    if seen.control == state.candidate.release:
        return moved(state, "Promoted", "the candidate is the control already", now)
    if state.control and seen.control != state.control:
        reason = f"the control answers with {seen.control[:16]}, not with {state.control[:16]}"
        return moved(state, "Failed", reason, now)
    reason = f"control {seen.control[:16]} answers; starting the candidate"
    return moved(replace(state, control=seen.control), "Deploying", reason, now)


def _deploy(state: RolloutState, plan: Plan, backend: Backend, now: float) -> RolloutState:
    try:
        backend.deploy(state.candidate, state.name, state.salt, plan.design)
        seen = backend.observe()
    except InputError as error:
        return ending(state, "Failed", f"the candidate can't be deployed: {error}", now)
    except TaoembError as error:
        ended = not_ready(state, plan, str(error), now)
        if ended is None:
            raise
        return ended
    if seen.candidate == state.candidate.release and seen.percent == 0:
        return _at_step(state, plan, 0, f"the candidate answers with its digest {seen.candidate[:16]}", now)
    waiting = replace(state, message=f"waiting for the candidate: {_absent(seen)}")
    return not_ready(state, plan, _absent(seen), now) or waiting


def _step(state: RolloutState, plan: Plan, backend: Backend, look: Look, seen: Observed, now: float) -> RolloutState:
    if seen.edited:
        return ending(state, "Failed", seen.edited, now)
    ready = seen.candidate == state.candidate.release
    if seen.candidate is not None and not ready:
        return ending(state, "Failed", f"the candidate answers with another release: {_absent(seen)}", now)
    percent = plan.steps[state.step].percent
    lacks = "" if ready else f"the candidate does not answer: {_absent(seen)}"
    if ready and seen.percent != percent:
        try:
            lacks = backend.fit(percent)
            if not lacks:
                backend.shift(percent)
        except TaoembError as error:
            return stuck(state, plan, look, now, error)
    state = _timed(state, lacks, now)
    if _lacking_too_long(state, plan, now):
        what = "had too little capacity" if ready else "did not answer"
        return ending(state, "RolledBack", f"the candidate {what} for {plan.ready_timeout_s:g} s: {lacks}", now)
    if seen.percent != percent:
        if state.shifted and ready and not lacks:
            state = noted(state, f"somebody else had set the share to {seen.percent:g} %: {percent:g} % again", now)
        return overdue(state, plan, now) or state
    if not state.shifted:
        return replace(state, shifted=True, since=now)
    return _look(state, plan, backend, look, ready, now) if look_is_due(state, plan, now) else state


def _look(state: RolloutState, plan: Plan, backend: Backend, look: Look, ready: bool, now: float) -> RolloutState:
    if ready:
        _keep_fit(backend, plan.steps[state.step].percent)
    try:
        verdict = look(state, now)
    except TaoembError as error:
        failed = state.failed_looks + 1
        state = replace(state, looked_at=now, failed_looks=failed, message=f"this look failed: {error}")
        return overdue(state, plan, now) or state
    return _judged(replace(state, looked_at=now, looks=state.looks + 1, failed_looks=0), plan, verdict, ready, now)


def _judged(state: RolloutState, plan: Plan, verdict: Verdict, ready: bool, now: float) -> RolloutState:
    """Where a verdict leads. A candidate that does not answer right now gets no more traffic, whatever was measured."""
    outcome = verdict.outcome
    if outcome == "rollback":
        return ending(state, "RolledBack", why(verdict, outcome, plan), now)
    if outcome == "inconclusive":
        return inconclusive(state, plan, why(verdict, outcome, plan), now)
    if not ready:
        return state
    if outcome == "promote":
        return moved(state, "Promoting", why(verdict, outcome, plan), now)
    if verdict.next_step and state.step + 1 < len(plan.steps):
        return _at_step(state, plan, state.step + 1, why(verdict, "next step", plan), now)
    return replace(state, message=why(verdict, outcome, plan))


def _promote(state: RolloutState, plan: Plan, backend: Backend, seen: Observed, now: float) -> RolloutState:
    release = state.candidate.release
    if seen.edited and seen.control not in (None, release):
        return ending(state, "Failed", seen.edited, now)
    lacks = f"the candidate does not answer: {_absent(seen)}"
    try:
        if release in (seen.candidate, seen.control):
            lacks = backend.fit(100) if seen.candidate == release else ""
        if not lacks:
            backend.promote()
            seen = backend.observe()
    except TaoembError as error:
        return not_promoted(state, plan, error, now)
    if not lacks:
        if seen.control == release and seen.candidate is None and seen.percent == 0:
            return moved(state, "Promoted", state.reason, now)
        return replace(state, unready_since=None, message=f"promoting: {seen.message}")
    state = _timed(state, lacks, now)
    if _lacking_too_long(state, plan, now):
        reason = f"the candidate could not be promoted within {plan.ready_timeout_s:g} s: {lacks}"
        return ending(state, "RolledBack", reason, now)
    return state


def _roll_back(state: RolloutState, backend: Backend, now: float) -> RolloutState:
    """Done once the control answers alone; a promotion that was through before is owned up to."""
    assert state.ends_as is not None
    backend.rollback()
    seen = backend.observe()
    if seen.control is None or seen.candidate is not None or seen.percent != 0:
        return replace(state, message=f"rolling back: {seen.message}")
    if seen.control == state.candidate.release:
        return moved(state, "Promoted", f"the promotion was complete before its rollback ({state.reason})", now)
    return moved(state, state.ends_as, state.reason, now)


def _at_step(state: RolloutState, plan: Plan, step: int, why: str, now: float) -> RolloutState:
    return moved(state, "Stepping", f"to {plan.steps[step].percent:g} %: {why}", now, step)


def _keep_fit(backend: Backend, percent: float) -> None:
    """The control may have grown since the shift; a look is never lost for that."""
    with suppress(TaoembError):
        backend.fit(percent)


def _timed(state: RolloutState, lacks: str, now: float) -> RolloutState:
    """Keep since when the candidate lacks something: an answer, or pods."""
    if not lacks:
        return state if state.unready_since is None else replace(state, unready_since=None, message="")
    since = now if state.unready_since is None else state.unready_since
    return replace(state, unready_since=since, message=lacks)


def _lacking_too_long(state: RolloutState, plan: Plan, now: float) -> bool:
    return state.unready_since is not None and now - state.unready_since > plan.ready_timeout_s


def _absent(seen: Observed) -> str:
    said = "no digest" if seen.candidate is None else f"digest {seen.candidate[:16]}"
    return f"{said} ({seen.message})" if seen.message else said
