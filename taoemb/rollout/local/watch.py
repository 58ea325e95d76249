"""Moves the rollout of a folder on until it ends, and keeps its processes alive meanwhile."""

from collections.abc import Callable

from taoemb.rollout.clock import Clock
from taoemb.rollout.drive import drive, stored
from taoemb.rollout.local.backend import keeping_alive
from taoemb.rollout.local.start import LocalRollout
from taoemb.rollout.measurement.looking import Looker
from taoemb.rollout.progress_line import progress_line
from taoemb.rollout.state import RolloutState
from taoemb.serving.events.store import EventStore


def watch_local(there: LocalRollout, *, say: Callable[[str], None], warn: Callable[[str], None]) -> RolloutState:
    """Tick until the rollout ends; its last state. `say` gets a line about each change, `warn` what did not work yet.

    Raises InputError when the rollout can't go on at all.
    """
    with EventStore(there.config.events) as store:
        _, plan, _ = stored(store.rollouts, there.name)
        with Looker(store, there.config, plan, there.reward_judges) as looker, keeping_alive(there.backend):

            def tell(state: RolloutState) -> None:
                say(progress_line(state, plan, looker.last, looker.note))

            return drive(store.rollouts, there.name, there.backend, looker, say=tell, warn=warn, clock=Clock(store.now))
