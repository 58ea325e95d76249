"""A rollout that a person paused: traffic stays as it is, looks go on, and what harms still goes back.

A tick either acts for the stored phase or moves on and touches nothing. So a pause needs no place in the engine: it
drops moves that go forwards before they are stored.
"""

from dataclasses import replace

from taoemb.errors import InputError
from taoemb.rollout.state import Change, Phase, RolloutState

PAUSABLE: frozenset[Phase] = frozenset({"Pending", "Deploying", "Stepping"})


def is_paused(state: RolloutState) -> bool:
    """Whether the pause holds anything back now."""
    return state.paused_at is not None and state.phase in PAUSABLE


def pause(state: RolloutState, why: str, now: float) -> RolloutState:
    """The state paused; itself when it is. Raises InputError when nothing is left to hold back."""
    if state.paused_at is not None:
        return state
    if state.phase not in PAUSABLE:
        raise InputError(f"rollout {state.name} is {state.phase}: only one that has steps before it can be paused")
    return _noted(replace(state, paused_at=now), f"paused: {why}" if why else "paused", now)


def resume(state: RolloutState, why: str, now: float) -> RolloutState:
    """The state going on; itself when it was not paused. The time of the pause counts towards no limit."""
    if state.paused_at is None:
        return state
    since = state.since + now - max(state.paused_at, state.since)
    return _noted(replace(state, paused_at=None, since=since, message=""), f"resumed: {why}" if why else "resumed", now)


def held_back(before: RolloutState, after: RolloutState) -> RolloutState:
    """What a tick made of `before`, without moves that a pause holds back.

    A way back because something harms, a failure, and what a person asked for go through.
    """
    moved = (after.phase, after.step) != (before.phase, before.step)
    if not is_paused(before) or not moved or before.request is not None:
        return after
    timed_out = after.phase == "Inconclusive" or after.ends_as == "Inconclusive"
    if after.phase in ("RollingBack", "RolledBack", "Failed") and not timed_out:
        return after
    return replace(
        before,
        control=after.control,
        looked_at=after.looked_at,
        looks=after.looks,
        failed_looks=after.failed_looks,
        message=f"paused; else it would be {after.phase} now: {after.reason}",
    )


def _noted(state: RolloutState, reason: str, now: float) -> RolloutState:
    return replace(state, changes=(*state.changes, Change(now, state.phase, state.step, reason)))
