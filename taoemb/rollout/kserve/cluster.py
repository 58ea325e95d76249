"""An EncoderRollout from the outside: make one, follow it to its end, ask it to promote or roll back.

The controller does the work; whoever follows may stop and come back at any time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS, new_resource
from taoemb.rollout.pausing import PAUSABLE
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import ENDED, Action
from taoemb.serving.kube import Conflict, Json, Missing, Objects

_DIGITS = 10
_SILENT_S = 60.0  # after which nobody seems to control it
_TRIES = 5


@dataclass(frozen=True)
class Place:
    """An object by name: an InferenceService, or an EncoderRollout."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def parse_place(text: str, where: str) -> Place:
    """NAMESPACE/NAME, with or without kserve:// before it. Raises InputError."""
    namespace, slash, name = text.removeprefix("kserve://").partition("/")
    if not namespace or not slash or not name or "/" in name:
        raise InputError(f"{where} {text!r}: expected NAMESPACE/NAME")
    return Place(namespace, name)


def rollout_name(inference_service: str, release: str) -> str:
    """Name of the EncoderRollout of a release: whoever starts it again finds the same one."""
    return f"{inference_service}-{release[:_DIGITS]}"


def start_rollout(objects: Objects, service: Place, candidate: Candidate, plan: Plan, name: str = "") -> Place:
    """Make the EncoderRollout, or find the same one made before.

    Raises InputError when there is another one of that name, or the API server refuses the plan.
    """
    place = Place(service.namespace, name or rollout_name(service.name, candidate.release))
    body = new_resource(place.namespace, place.name, service.name, candidate, plan)
    try:
        objects.create(ENCODER_ROLLOUTS, place.namespace, body)
    except Conflict:
        found = objects.get(ENCODER_ROLLOUTS, place.namespace, place.name)["spec"]
        differing = [key for key in ("inferenceService", "candidate", "plan") if found.get(key) != body["spec"][key]]
        if differing:
            raise InputError(
                f"EncoderRollout {place} is there already with another {differing[0]}; delete it, or choose another "
                "name"
            ) from None
    except Missing:
        raise InputError(
            "the cluster knows no EncoderRollout; kubectl apply -f manifests/crds/encoderrollout.yaml"
        ) from None
    return place


def read_status(objects: Objects, place: Place) -> Json:
    """The status as it is now; empty before the first look. Raises Missing."""
    return dict(objects.get(ENCODER_ROLLOUTS, place.namespace, place.name).get("status") or {})


def line(status: Json) -> str:
    """One line about where it stands."""
    where = f"{status['phase']}, step {status['step']}, {status['percent']} %"
    return f"{where}: {status['message']}" if status.get("message") else where


def follow(
    objects: Objects, place: Place, *, say: Callable[[str], None], warn: Callable[[str], None], poll_s: float = 5.0
) -> Json:
    """Wait for its end, however long that takes; its last status.

    `say` gets a line about each change, `warn` what does not work. Raises Missing when it was deleted.
    """
    told = warned = ""
    begun = time.monotonic()
    while True:
        try:
            found = objects.get(ENCODER_ROLLOUTS, place.namespace, place.name)
        except Missing:
            raise
        except TaoembError as error:
            warned = _once(warn, str(error), warned)
            time.sleep(poll_s)
            continue
        status = dict(found.get("status") or {})
        if status:
            told = _once(say, line(status), told)
        elif time.monotonic() - begun > _SILENT_S:
            text = f"EncoderRollout {place}: nothing looks at it; is `taoemb rollout controller` running?"
            warned = _once(warn, text, warned)
        if _ended(found):
            return status
        time.sleep(poll_s)


def _ended(body: Json) -> bool:
    """Whether nothing more will happen: also no request is on its way."""
    status = body.get("status") or {}
    asked = body["spec"].get("request")
    waiting = status.get("state", {}).get("request") or (asked is not None and asked != status.get("obeyed"))
    return status.get("phase") in ENDED and not waiting


def ask(objects: Objects, place: Place, action: Action, why: str) -> None:
    """Put a person's request into the spec; the controller obeys at its next look. Raises InputError when it ended."""
    for _ in range(_TRIES):
        found = objects.get(ENCODER_ROLLOUTS, place.namespace, place.name)
        state = (found.get("status") or {}).get("state", {})
        if state.get("phase") in ENDED and not state.get("held"):
            raise InputError(f"EncoderRollout {place} has ended ({state['phase']}); start another one")
        body = {
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
            "spec": {"request": {"action": action, "reason": why or "asked for"}},
        }
        try:
            objects.patch(ENCODER_ROLLOUTS, place.namespace, place.name, body)
            return
        except Conflict:
            continue
    raise TaoembError(f"EncoderRollout {place}: others write it all the time; {_TRIES} tries failed")


def set_paused(objects: Objects, place: Place, paused: bool, why: str) -> None:
    """Ask for a pause or its end in the spec. Raises InputError when nothing is left to hold back."""
    found = objects.get(ENCODER_ROLLOUTS, place.namespace, place.name)
    phase = (found.get("status") or {}).get("phase", "Pending")
    if paused and phase not in PAUSABLE:
        raise InputError(f"EncoderRollout {place} is {phase}: only one that has steps before it can be paused")
    spec = {"paused": True if paused else None, "pauseReason": why or None}
    objects.patch(ENCODER_ROLLOUTS, place.namespace, place.name, {"spec": spec})


def _once(tell: Callable[[str], None], text: str, before: str) -> str:
    if text != before:
        tell(text)
    return text
