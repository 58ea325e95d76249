"""The rollout commands on this machine: each opens the folder, does one thing, and says what to show."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from taoemb.cli.rollout_shown import Shown, keep_quiet, say, warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from taoemb.rollout.state import Action, RolloutState


def status(folder: Path) -> Shown:
    """Where the rollout of the folder stands, and what was decided last."""
    from taoemb.rollout.drive import stored
    from taoemb.rollout.local.start import open_local
    from taoemb.serving.events.store import EventStore

    there = open_local(folder)
    with EventStore(there.config.events) as store:
        _, plan, state = stored(store.rollouts, there.name)
        decision = store.rollouts.last_decision(there.name)
    reasons = [] if decision is None else list(decision.verdict["reasons"])
    gateway = there.backend.gateway_url()
    rows: list[tuple[Any, Any]] = [("phase", state.phase), ("why", state.reason)]
    if state.phase == "Stepping":
        rows.append(("step", f"{state.step + 1} of {len(plan.steps)}, {plan.steps[state.step].percent:g} %"))
    if state.message:
        rows.append(("waits for", state.message))
    rows += [("control", state.control[:16]), ("candidate", state.candidate.release[:16])]
    rows += [("gateway", gateway or "stopped"), ("looks", state.looks)]
    rows += [(reason["check"], reason["text"]) for reason in reasons]
    return Shown(state.name, state.phase, _result(state) | {"gateway": gateway, "reasons": reasons}, rows)


def watch(folder: Path, quiet: bool) -> Shown:
    """Move the folder's rollout on to its end, saying each look unless `quiet`."""
    from taoemb.rollout.local.start import open_local
    from taoemb.rollout.local.watch import watch_local

    state = watch_local(open_local(folder), say=keep_quiet if quiet else say, warn=warn)
    rows = [("ended as", state.phase), ("why", state.reason)]
    return Shown(state.name, state.phase, _result(state), rows)


def decide(folder: Path, action: "Action", why: str, quiet: bool) -> Shown:
    """Put a person's request on record and carry it out."""
    from taoemb.rollout.drive import ask
    from taoemb.rollout.local.start import open_local
    from taoemb.serving.events.store import EventStore

    there = open_local(folder)
    with EventStore(there.config.events) as store:
        ask(store.rollouts, there.name, action, why)
    return watch(folder, quiet)


def pause(folder: Path, why: str) -> Shown:
    """Hold the folder's rollout where it is."""
    from taoemb.rollout.pausing import pause as hold

    return _changed(folder, lambda state, now: hold(state, why, now))


def resume(folder: Path, why: str) -> Shown:
    """Let it go on."""
    from taoemb.rollout.pausing import resume as go_on

    return _changed(folder, lambda state, now: go_on(state, why, now))


def retry(folder: Path) -> str:
    """Start the folder's rollout again under a new name; that name. Raises InputError unless it ended in vain."""
    from taoemb.rollout.local.again import retry_local

    return retry_local(folder, warn=warn).name


def undo(folder: Path, why: str, quiet: bool) -> Shown:
    """Bring back what served before, and watch."""
    from taoemb.rollout.drive import ask
    from taoemb.rollout.local.again import undo_local
    from taoemb.serving.events.store import EventStore

    there = undo_local(folder, warn=warn)
    if there is None:
        return decide(folder, "rollback", why or "undo", quiet)
    with EventStore(there.config.events) as store:
        ask(store.rollouts, there.name, "promote", why or "undo")
    return watch(folder, quiet)


def rollouts(folder: Path) -> list[dict[str, Any]]:
    """All rollouts in the folder's events database, the latest first."""
    from taoemb.rollout.controller.resource_status import percent_of
    from taoemb.rollout.drive import stored
    from taoemb.rollout.local.start import open_local
    from taoemb.serving.events.store import EventStore

    rows = []
    with EventStore(open_local(folder).config.events) as store:
        for name in store.rollouts.names():
            _, plan, state = stored(store.rollouts, name)
            decision = store.rollouts.last_decision(name)
            verdict = {} if decision is None else decision.verdict
            rows.append(
                {
                    "rollout": name,
                    "phase": state.phase,
                    "step": f"{state.step + 1}/{len(plan.steps)}",
                    "share": f"{percent_of(state, plan)} %",
                    "units": verdict.get("units", 0),
                    "outcome": verdict.get("outcome", ""),
                    "reason": state.message or state.reason,
                }
            )
    return rows


def _changed(folder: Path, make: "Callable[[RolloutState, float], RolloutState]") -> Shown:
    from taoemb.rollout.drive import change
    from taoemb.rollout.local.start import open_local
    from taoemb.serving.events.store import EventStore

    there = open_local(folder)
    with EventStore(there.config.events) as store:
        state = change(store.rollouts, there.name, make)
    rows = [("phase", state.phase), ("why", state.reason)]
    return Shown(state.name, state.phase, _result(state), rows)


def stop(folder: Path, quiet: bool) -> Shown:
    """End the folder's processes, after rolling back what is under way."""
    from taoemb.rollout.drive import stored
    from taoemb.rollout.local.start import open_local
    from taoemb.serving.events.store import EventStore

    there = open_local(folder)
    with EventStore(there.config.events) as store:
        _, _, state = stored(store.rollouts, there.name)
    if not state.ended or state.held:
        under_way = state.phase in ("RollingBack", "Promoting")
        ended = watch(folder, quiet) if under_way else decide(folder, "rollback", "stopped", quiet)
    else:
        ended = status(folder)
    there.backend.stop()
    result = {"rollout": ended.name, "phase": ended.phase, "stopped": str(folder)}
    return Shown(ended.name, ended.phase, result, list(result.items()))


def _result(state: "RolloutState") -> dict[str, Any]:
    from taoemb.rollout.state import to_json

    return to_json(state) | {"reason": state.reason, "ended": state.ended}
