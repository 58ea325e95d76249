"""Where a rollout stands: all that is remembered between two ticks, in a row of `rollouts` or a resource's status.

The phase says what the world shall look like, so whoever starts from a stored state knows what to do; nothing else is
kept in memory.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate

Phase = Literal[
    "Pending", "Deploying", "Stepping", "Promoting", "Promoted", "RollingBack", "RolledBack", "Inconclusive", "Failed"
]
Action = Literal["promote", "rollback"]
STATE_VERSION = 1
"""Of the stored form; it grows when an older taoemb would misread a newer state, not for a field that it may ignore."""
ENDED: frozenset[Phase] = frozenset({"Promoted", "RolledBack", "Inconclusive", "Failed"})

_REMEDY = "upgrade taoemb, or ask for a rollback, which is still obeyed"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Change:
    """One move of the rollout, kept for audit."""

    at: float
    """Unix seconds."""
    phase: Phase
    step: int
    reason: str


@dataclass(frozen=True)
class Request:
    """What a person asked for, until the next tick obeys."""

    action: Action
    why: str
    at: float


@dataclass(frozen=True)
class RolloutState:
    """All that a rollout remembers."""

    name: str
    candidate: Candidate
    salt: str
    """Salt of the assignment of units to arms."""
    since: float
    """Unix seconds when this phase and step began; a step begins when its share was seen in place."""
    control: str = ""
    """Digest of the control, once it was read back."""
    phase: Phase = "Pending"
    step: int = 0
    """Index into the plan's steps."""
    shifted: bool = False
    """Whether this step's share was seen in place."""
    unready_since: float | None = None
    """Since when the candidate does not answer with its digest."""
    looked_at: float | None = None
    looks: int = 0
    failed_looks: int = 0
    """Looks in a row that failed; 0 after one that worked."""
    ends_as: Phase | None = None
    """What a rollback that is under way ends as: RolledBack, Inconclusive or Failed."""
    held: bool = False
    """Inconclusive, with the traffic left as it was for a person to decide."""
    paused_at: float | None = None
    """Since when a person holds it where it is."""
    request: Request | None = None
    message: str = ""
    """What is being waited for, in words."""
    changes: tuple[Change, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether no tick will do anything more on its own."""
        return self.phase in ENDED and self.request is None

    @property
    def reason(self) -> str:
        """Why it stands where it stands."""
        return self.changes[-1].reason if self.changes else ""


def begin(name: str, candidate: Candidate, salt: str, now: float, control: str = "") -> RolloutState:
    """A rollout before its first tick; with `control` given, it refuses to start beside any other control."""
    started = Change(now, "Pending", 0, f"rollout of {candidate.release[:16]} begins")
    return RolloutState(name, candidate, salt, since=now, control=control, changes=(started,))


def moved(state: RolloutState, phase: Phase, reason: str, now: float, step: int | None = None) -> RolloutState:
    """The state in another phase or step, with the reason on record; a request stays until its end is under way."""
    step = state.step if step is None else step
    return replace(
        state,
        phase=phase,
        step=step,
        since=now,
        shifted=False,
        unready_since=None,
        request=state.request if phase in ("Deploying", "Stepping") else None,
        message="",
        changes=(*state.changes, Change(now, phase, step, reason)),
    )


def noted(state: RolloutState, reason: str, now: float) -> RolloutState:
    """The same state with something on record that moved nothing."""
    return replace(state, changes=(*state.changes, Change(now, state.phase, state.step, reason)))


def with_request(state: RolloutState, action: Action, why: str, now: float) -> RolloutState:
    """The state with a person's request in it. Raises InputError when it comes too late."""
    if state.phase in ENDED and not state.held:
        raise InputError(f"rollout {state.name} has ended ({state.phase}): {state.reason}; start another one")
    if state.phase == "RollingBack" or (state.phase == "Promoting" and action == "promote"):
        raise InputError(f"rollout {state.name} is {state.phase} already; wait for its end")
    return replace(state, request=Request(action, why, now))


def to_json(state: RolloutState) -> dict[str, Any]:
    """As a JSON object."""
    changes = [dataclasses.asdict(change) for change in state.changes]
    return {"version": STATE_VERSION} | dataclasses.asdict(state) | {"changes": changes}


def from_json(tree: Mapping[str, Any]) -> RolloutState:
    """The value of :func:`to_json` read back. Raises InputError when this version can't know what it means.

    Fields of another version are left out: after a downgrade a rollout goes on with what this version knows.
    """
    rest = {name: value for name, value in tree.items() if name not in ("candidate", "request", "changes")}
    try:
        changes = tuple(_known(Change, change) for change in tree.get("changes") or ())
        request = _known(Request, tree["request"]) if tree.get("request") else None
        nested = {"candidate": _known(Candidate, tree["candidate"]), "request": request, "changes": changes}
        state = _known(RolloutState, rest | nested)
        strange = [phase for phase in (state.phase, state.ends_as) if phase not in (None, *get_args(Phase))]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"the rollout's state is not one that taoemb wrote ({error}); {_REMEDY}") from None
    if strange:
        raise InputError(
            f"the rollout's state has the phase {strange[0]!r} of version {tree.get('version')}, and this taoemb knows "
            f"version {STATE_VERSION}; {_REMEDY}"
        )
    return state


def _known(kind: type[_T], tree: Mapping[str, Any]) -> _T:
    """A dataclass from the fields that this version has. Raises TypeError when one is missing."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in tree.items() if name in names})
