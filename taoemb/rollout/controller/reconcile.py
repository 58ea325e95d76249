"""One look at one EncoderRollout: read it, tick its rollout, write the status. All memory is in the object.

Nothing is done to an InferenceService that the stored status did not already call for, and a write names the version
it was made from: a controller that is stopped anywhere, or two of them at once, do no harm.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Backend
from taoemb.rollout.clock import Clock
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS, FINALIZER, Resource, parse_resource
from taoemb.rollout.controller.resource_events import announce
from taoemb.rollout.controller.resource_status import status_of, unreadable
from taoemb.rollout.engine import Look, given_up, tick
from taoemb.rollout.pausing import PAUSABLE, held_back, pause, resume
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import Action, RolloutState, begin, from_json, moved, with_request
from taoemb.rollout.verdict import Verdict
from taoemb.serving.kube import Json, Missing, Objects


@dataclass(frozen=True)
class Reconciled:
    """What a tick came to."""

    phase: str
    failed: str = ""
    """What did not work although the tick did, in words: a look."""


@dataclass(frozen=True)
class Tools:
    """What a tick needs beside the object."""

    objects: Objects
    backend: Callable[[Resource, Plan], Backend]
    look: Callable[[Resource, Plan], Look]
    record: Callable[[Plan, RolloutState, float], None]
    """Keeps the state where reports read it too."""
    clock: Clock = field(default_factory=Clock)
    """By which rollouts age."""


def reconcile(body: Json, tools: Tools, now: float) -> Reconciled:
    """Bring one EncoderRollout nearer to its end. `now` in Unix seconds.

    Raises TaoembError when something failed that another try may mend; the status says so too.
    """
    resource = parse_resource(body)
    plan, refused = plan_of(resource)
    if resource.deleting:
        return Reconciled(_finalise(resource, plan, tools, now))
    try:
        state = state_of(resource, now)
    except InputError as error:
        write(resource, unreadable(resource, str(error), now), tools)
        raise
    if refused and not state.ended and state.phase != "RollingBack":
        state = given_up(state, refused, now)
        write(resource, status_of(resource, state, plan, now), tools)
        return Reconciled(state.phase, refused)
    obeyed, state = obey(resource, _paused(resource, state, now), now)
    if state.ended and resource.status.get("observedGeneration") == resource.generation:
        return Reconciled(_release(resource, state, plan, tools, now))
    if not state.ended:
        resource = _guarded(resource, tools)
    verdicts: list[Verdict] = []
    try:
        after = tick(state, plan, tools.backend(resource, plan), _heard(tools.look(resource, plan), verdicts), now)
        after = held_back(state, after)
    except TaoembError as error:
        write(resource, status_of(resource, state, plan, now, error=str(error)) | obeyed, tools)
        raise
    verdict = verdicts[-1] if verdicts else None
    write(resource, status_of(resource, after, plan, now, verdict=verdict) | obeyed, tools)
    if after != state:
        tools.record(plan, after, now)
    announce(tools.objects, resource, after.changes, now)
    looked = after.looked_at != state.looked_at
    return Reconciled(after.phase, after.message if looked and after.failed_looks else "")


def plan_of(resource: Resource) -> tuple[Plan, str]:
    """The plan, and why this library can't take it although the schema did: then one that is good for a way back."""
    try:
        return resource.plan(), ""
    except InputError as error:
        return Plan(), str(error)


def state_of(resource: Resource, now: float, *, anew: bool = False) -> RolloutState:
    """The stored state, or that of a beginning. Raises InputError for one that this version can't read."""
    stored = resource.status.get("state")
    if stored and not anew:
        return from_json(stored)
    return begin(resource.rollout, resource.candidate, salt=resource.uid, now=now)


def obey(resource: Resource, state: RolloutState, now: float) -> tuple[Json, RolloutState]:
    """The state with a new request in it, and the part of the status that remembers it."""
    wish = resource.request
    asked = None if wish is None else {"action": wish.action, "reason": wish.reason}
    if wish is None or asked == resource.status.get("obeyed"):
        return {}, state
    try:
        action: Action = "promote" if wish.action == "promote" else "rollback"
        return {"obeyed": asked}, with_request(state, action, wish.reason, now)
    except InputError:
        return {"obeyed": asked}, state  # too late: the status says how it ended


def _paused(resource: Resource, state: RolloutState, now: float) -> RolloutState:
    """The state held or going on as the spec says; one that can't be paused any more stays as it is."""
    if state.phase not in PAUSABLE:
        return state
    return (pause if resource.paused else resume)(state, resource.pause_reason, now)


def _heard(look: Look, verdicts: list[Verdict]) -> Look:
    """The same look, whose verdict is kept for the status."""

    def heard(state: RolloutState, now: float) -> Verdict:
        verdicts.append(look(state, now))
        return verdicts[-1]

    return heard


def _guarded(resource: Resource, tools: Tools) -> Resource:
    """The object with the finalizer on it, before anything is done that a deletion would have to undo."""
    if resource.finalized:
        return resource
    kept = resource.body["metadata"].get("finalizers", [])
    return parse_resource(_patch_finalizers(resource, [*kept, FINALIZER], tools))


def _release(resource: Resource, state: RolloutState, plan: Plan, tools: Tools, now: float) -> str:
    """An end that left nothing to undo needs no finalizer, once it was told and recorded."""
    if resource.finalized and not state.held:
        tools.record(plan, state, now)
        announce(tools.objects, resource, state.changes, now)
        kept = [one for one in resource.body["metadata"]["finalizers"] if one != FINALIZER]
        _patch_finalizers(resource, kept, tools)
    return state.phase


def _finalise(resource: Resource, plan: Plan, tools: Tools, now: float) -> str:
    """A deleted object takes its candidate along; a promoted one leaves the control as it is."""
    if not resource.finalized:
        return "Deleted"
    try:
        state = state_of(resource, now)
    except InputError:
        state = state_of(resource, now, anew=True)
    backend = tools.backend(resource, plan)
    try:
        backend.rollback()
        seen = backend.observe()
    except Missing:  # the InferenceService was deleted too: nothing is left to undo
        seen = None
    if seen is not None and (seen.candidate is not None or seen.percent):
        return "RollingBack"
    through = seen is not None and seen.control == state.candidate.release
    if through and state.phase == "Promoting":
        backend.promote()  # the vector store may not know it yet
    if state.held or not state.ended:
        tools.record(plan, _deleted(state, through, now), now)
    kept = [one for one in resource.body["metadata"]["finalizers"] if one != FINALIZER]
    _patch_finalizers(resource, kept, tools)
    return "Deleted"


def _deleted(state: RolloutState, through: bool, now: float) -> RolloutState:
    """How a deleted rollout ended: by what serves, not by what was meant."""
    if through:
        after = moved(state, "Promoted", "the EncoderRollout was deleted after its promotion was through", now)
    else:
        after = moved(state, "RolledBack", "the EncoderRollout was deleted", now)
    return replace(after, held=False)


def _patch_finalizers(resource: Resource, finalizers: list[str], tools: Tools) -> Json:
    version = resource.body["metadata"]["resourceVersion"]
    body = {"metadata": {"resourceVersion": version, "finalizers": finalizers}}
    return tools.objects.patch(ENCODER_ROLLOUTS, resource.namespace, resource.name, body)


def write(resource: Resource, status: Json, tools: Tools) -> None:
    """Store the status, unless it says nothing new. Raises Conflict when the object changed meanwhile."""
    if without_null(status) == {key: value for key, value in resource.status.items() if key in status}:
        return
    body = {"metadata": {"resourceVersion": resource.body["metadata"]["resourceVersion"]}, "status": status}
    tools.objects.patch(ENCODER_ROLLOUTS, resource.namespace, resource.name, body, "status")


def without_null(tree: Any) -> Any:
    """What a merge patch makes of this tree: null removes a field."""
    if isinstance(tree, dict):
        return {key: without_null(value) for key, value in tree.items() if value is not None}
    return [without_null(value) for value in tree] if isinstance(tree, list) else tree
