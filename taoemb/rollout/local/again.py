"""A rollout of this machine once more, and back: started from the one that the folder holds."""

from collections.abc import Callable
from pathlib import Path

from taoemb.errors import InputError
from taoemb.rollout.drive import stored
from taoemb.rollout.local.start import LocalRollout, open_local, start_local
from taoemb.rollout.plan import BACK, Plan
from taoemb.rollout.state import RolloutState
from taoemb.serving.events.store import EventStore


def retry_local(folder: Path, *, warn: Callable[[str], None]) -> LocalRollout:
    """Start the same rollout again under a new name. Raises InputError unless it ended without a promotion."""
    there, plan, state = _opened(folder)
    if state.phase not in ("RolledBack", "Inconclusive", "Failed") or state.held:
        raise InputError(
            f"rollout {there.name} is {state.phase}: only one that ended without a promotion can be retried"
        )
    return _start(folder, there, plan, _control(there), Path(state.candidate.location), warn)


def undo_local(folder: Path, *, warn: Callable[[str], None]) -> LocalRollout | None:
    """Start the way back after a promotion; None when a rollback of the rollout under way does it.

    Raises InputError when the control serves already.
    """
    there, _, state = _opened(folder)
    if state.phase == "Promoted":
        return _start(folder, there, BACK, Path(state.candidate.location), _control(there), warn)
    if state.ended and not state.held:
        raise InputError(f"rollout {there.name} is {state.phase}: what served before serves; there is nothing to undo")
    return None


def _opened(folder: Path) -> tuple[LocalRollout, Plan, RolloutState]:
    there = open_local(folder)
    with EventStore(there.config.events) as store:
        return (there, *stored(store.rollouts, there.name)[1:])


def _control(there: LocalRollout) -> Path:
    if there.control is None:
        raise InputError(f"rollout {there.name}: nothing says which folder served; use `taoemb rollout start`")
    return there.control


def _start(
    folder: Path, there: LocalRollout, plan: Plan, control: Path, candidate: Path, warn: Callable[[str], None]
) -> LocalRollout:
    return start_local(folder, plan, control, candidate, there.config, replicas=there.replicas, warn=warn)
