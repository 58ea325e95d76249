"""Ticks a rollout whose state stands in the events database: what the command line does, and a local backend needs.

The state is read anew before each tick, so several commands may work on one rollout: a write over a state that another
one has moved is refused, and the next tick starts from there.
"""

import time
from collections.abc import Callable

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Backend
from taoemb.rollout.clock import Clock
from taoemb.rollout.engine import Look, tick
from taoemb.rollout.pausing import held_back
from taoemb.rollout.plan import Plan, parse_plan
from taoemb.rollout.state import Action, RolloutState, from_json, to_json, with_request
from taoemb.serving.events.rollout_records import RolloutRecords
from taoemb.serving.events.rows import StoredRollout

POLL_S = 0.5
LONGEST_PAUSE_S = 10.0


def stored(records: RolloutRecords, name: str) -> tuple[StoredRollout, Plan, RolloutState]:
    """A rollout as it is kept. Raises InputError when there is none of that name."""
    found = records.read(name)
    if found is None:
        raise InputError(f"rollout {name!r}: no such rollout in this events database")
    return found, parse_plan(found.plan, f"rollout {name}"), from_json(found.state)


def advance(
    records: RolloutRecords, known: StoredRollout, plan: Plan, backend: Backend, look: Look, now: float
) -> StoredRollout:
    """One tick, and its outcome on record; `known` itself when nothing changed.

    Raises TaoembError when it did not work: tick again later.
    """
    state = from_json(known.state)
    after = held_back(state, tick(state, plan, backend, look, now))
    return known if after == state else records.update(known, to_json(after), now)


def drive(
    records: RolloutRecords,
    name: str,
    backend: Backend,
    look: Look,
    *,
    say: Callable[[RolloutState], None],
    warn: Callable[[str], None],
    clock: Clock | None = None,
) -> RolloutState:
    """Tick until the rollout ends; its last state. `say` hears of each change, `warn` of what did not work yet; the
    rollout ages by `clock` (default: this machine's).

    Raises InputError when the rollout can't go on at all.
    """
    pause, warned, clock = POLL_S, "", clock or Clock()
    while True:
        try:
            clock.refresh()
            known, plan, state = stored(records, name)
            if state.ended:
                return state
            moved = advance(records, known, plan, backend, look, clock.now())
        except InputError:
            raise
        except TaoembError as error:
            if str(error) != warned:
                warn(str(error))
            warned = str(error)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            continue
        pause, warned = POLL_S, ""
        if moved is known:
            time.sleep(POLL_S)
        else:
            say(from_json(moved.state))


def ask(records: RolloutRecords, name: str, action: Action, why: str) -> RolloutState:
    """Put a person's request on record; the next tick obeys. Raises InputError when it comes too late."""
    return change(records, name, lambda state, now: with_request(state, action, why, now))


def change(records: RolloutRecords, name: str, make: Callable[[RolloutState, float], RolloutState]) -> RolloutState:
    """Put what `make` says of the stored state on record, whoever ticks meanwhile. Raises what `make` raises."""
    while True:
        known, _, state = stored(records, name)
        asked = make(state, time.time())
        if asked == state:
            return state
        try:
            records.update(known, to_json(asked), time.time())
        except TaoembError:
            now, _, _ = stored(records, name)
            if now.version == known.version:
                raise  # not for a tick that came between
        else:
            return asked
