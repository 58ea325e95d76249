"""An EncoderRollout once more, and back: made from one that ended, as a plan and a candidate never change in place."""

import re
from dataclasses import replace

from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS, Resource, new_resource, parse_resource
from taoemb.rollout.kserve.cluster import Place, ask
from taoemb.rollout.plan import BACK, Plan
from taoemb.serving.inference_service import CONTROL, CONTROL_STORAGE, ROLLOUT, notes
from taoemb.serving.kube import INFERENCE_SERVICES, Conflict, Objects

_NAMES = 100


def retry(objects: Objects, place: Place) -> Place:
    """Make the same rollout again under the next free name. Raises InputError unless it ended without a promotion."""
    resource = _read(objects, place)
    phase = resource.status.get("phase", "Pending")
    if phase not in ("RolledBack", "Inconclusive", "Failed") or resource.status.get("state", {}).get("held"):
        raise InputError(f"EncoderRollout {place} is {phase}: only one that ended without a promotion can be retried")
    return _make(objects, place, resource, resource.candidate, resource.plan())


def undo(objects: Objects, place: Place, why: str) -> Place:
    """Bring back the release that served before; the EncoderRollout that does it.

    One under way is rolled back. After a promotion the earlier control becomes the candidate of a new rollout that is
    promoted once it answers. Raises InputError when the control serves already, or another release does.
    """
    resource = _read(objects, place)
    phase = resource.status.get("phase", "Pending")
    if phase != "Promoted":
        if phase in ("RolledBack", "Failed") or (phase == "Inconclusive" and not resource.status["state"].get("held")):
            raise InputError(f"EncoderRollout {place} is {phase}: what served before serves; there is nothing to undo")
        ask(objects, place, "rollback", why or "undo")
        return place
    service = objects.get(INFERENCE_SERVICES, place.namespace, resource.inference_service)
    said = notes(service["spec"]["predictor"])
    if said.get(ROLLOUT) != resource.status["rollout"]:
        raise InputError(f"EncoderRollout {place}: another release was rolled out since; undo that rollout first")
    if CONTROL not in said or CONTROL_STORAGE not in said:
        raise InputError(
            f"EncoderRollout {place}: nothing says where the control was loaded from; start a rollout to it"
        )
    control = Candidate(said[CONTROL], said[CONTROL_STORAGE])
    base = replace(place, name=f"{place.name}-undo")
    made = _make(objects, base, resource, control, BACK, first=base.name)
    ask(objects, made, "promote", why or f"undo of {place.name}")
    return made


def _read(objects: Objects, place: Place) -> Resource:
    return parse_resource(objects.get(ENCODER_ROLLOUTS, place.namespace, place.name))


def _make(
    objects: Objects, place: Place, like: Resource, candidate: Candidate, plan: Plan, *, first: str = ""
) -> Place:
    base = re.sub(r"-\d{1,2}$", "", place.name)
    for name in ([first] if first else []) + [f"{base}-{number}" for number in range(2, _NAMES)]:
        body = new_resource(place.namespace, name, like.inference_service, candidate, plan)
        try:
            objects.create(ENCODER_ROLLOUTS, place.namespace, body)
        except Conflict:
            continue
        return Place(place.namespace, name)
    raise InputError(f"EncoderRollout {place}: was tried {_NAMES} times; delete some, or start one by hand")
