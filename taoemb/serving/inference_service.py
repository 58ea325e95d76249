"""What an InferenceService says about the arms: whose encoders answer where, and with which share.

Everything that the gateway has to know about a rollout stands in this one object, so that it changes in one step.
Digests, salt and the rollout's name are annotations *of a predictor*: annotations of the object itself are copied into
every pod template, and a change would restart the control's pods.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from taoemb.errors import InputError
from taoemb.serving.kube import Json
from taoemb.serving.traffic import Design

Mode = Literal["Standard", "Knative"]

MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
TAG_ROUTING = "serving.kserve.io/enable-tag-routing"
RELEASE = "taoemb.io/release"
"""Digest that this predictor's encoders must answer with."""
STORAGE = "taoemb.io/storage-uri"
"""The storageUri that the digest belongs to: another one in the spec makes the digest void."""
ROLLOUT = "taoemb.io/rollout"
SALT = "taoemb.io/salt"
DESIGN = "taoemb.io/design"
CONTROL = "taoemb.io/control"
"""Digest of the control during this rollout, as it was read back."""
CONTROL_STORAGE = "taoemb.io/control-storage-uri"
SCALE = "taoemb.io/scale"
"""The stable predictor's minReplicas and maxReplicas before this rollout, as JSON; Standard mode."""
SIDE = "taoemb.io/side"
"""A label: `a` or `b`, never the same on both arms' pods; an arm's disruption budget selects by it."""
_MODES: dict[str, Mode] = {
    "Standard": "Standard",
    "RawDeployment": "Standard",
    "Knative": "Knative",
    "Serverless": "Knative",
}


@dataclass(frozen=True)
class Side:
    """One arm as the object names it."""

    release: str | None
    """Digest; None when the object does not say (nothing was rolled out here yet)."""
    services: tuple[str, ...]
    """Names of Services that reach its encoders."""


@dataclass(frozen=True)
class Split:
    """The arms and the split as the object says them."""

    control: Side
    candidate: Side | None = None
    percent: int = 0
    rollout: str = ""
    salt: str = ""
    design: Design = "ab"


def mode_of(service: Mapping[str, Any]) -> Mode:
    """How KServe deploys it. Raises InputError when it does not say."""
    metadata = service["metadata"]
    said = (metadata.get("annotations") or {}).get(MODE_ANNOTATION) or service.get("status", {}).get("deploymentMode")
    if said not in _MODES:
        raise InputError(
            f"InferenceService {metadata['namespace']}/{metadata['name']}: give it the annotation "
            f"{MODE_ANNOTATION}: Standard (or Knative)"
        )
    return _MODES[said]


def split_of(service: Mapping[str, Any]) -> Split:
    """Read the object. Raises InputError when it is not one that rollouts understand."""
    try:
        return _standard(service) if mode_of(service) == "Standard" else _knative(service)
    except KeyError as error:
        metadata = service["metadata"]
        raise InputError(
            f"InferenceService {metadata['namespace']}/{metadata['name']}: {error} is missing; a canary that was not "
            f"made by a rollout must not carry the annotation {ROLLOUT}"
        ) from None


def predictor_service(service: Mapping[str, Any], predictor: Mapping[str, Any]) -> str:
    """Name of the Service that KServe makes for a predictor."""
    middle = f"-{predictor['name']}" if predictor.get("name") else ""
    return f"{service['metadata']['name']}{middle}-predictor"


def notes(predictor: Mapping[str, Any]) -> dict[str, str]:
    """Annotations of a predictor."""
    return dict(predictor.get("annotations") or {})


def storage_uri(service: Mapping[str, Any]) -> str:
    """Where the stable predictor loads its release from. Raises InputError when it has no `model.storageUri`."""
    uri = (service["spec"]["predictor"].get("model") or {}).get("storageUri")
    if not uri:
        metadata = service["metadata"]
        raise InputError(
            f"InferenceService {metadata['namespace']}/{metadata['name']}: spec.predictor.model.storageUri is needed"
        )
    return str(uri)


def rollout_entry(service: Mapping[str, Any], rollout: str = "") -> Json | None:
    """The canary that belongs to a rollout (to that one, or to any); Standard mode."""
    for entry in service["spec"].get("canary") or ():
        name = notes(entry["predictor"]).get(ROLLOUT)
        if name and rollout in ("", name):
            return dict(entry)
    return None


def stable_release(service: Mapping[str, Any]) -> str | None:
    """The stable predictor's digest, if the object says one that is still true of its storageUri."""
    said = notes(service["spec"]["predictor"])
    return said.get(RELEASE) if said.get(STORAGE) == storage_uri(service) else None


def _standard(service: Mapping[str, Any]) -> Split:
    control = Side(stable_release(service), (predictor_service(service, service["spec"]["predictor"]),))
    entry = rollout_entry(service)
    if entry is None:
        return Split(control)
    said = notes(entry["predictor"])
    return Split(
        control=Side(said[CONTROL], control.services),
        candidate=Side(said[RELEASE], (predictor_service(service, entry["predictor"]),)),
        percent=int(entry["trafficPercent"]),
        rollout=said[ROLLOUT],
        salt=said[SALT],
        design=_design(said[DESIGN]),
    )


def _knative(service: Mapping[str, Any]) -> Split:
    predictor = service["spec"]["predictor"]
    name = f"{service['metadata']['name']}-predictor"
    latest, previous = f"latest-{name}", f"prev-{name}"
    percent, said = predictor.get("canaryTrafficPercent"), notes(predictor)
    if percent is None:
        return Split(Side(stable_release(service), (latest,)))
    # At 0 % the route to the previous revision may be on its way still: until then `latest` is the control.
    hosts = (previous,) if percent else (previous, latest)
    if ROLLOUT not in said:
        return Split(Side(stable_release(service), hosts))
    return Split(
        control=Side(said[CONTROL], hosts),
        candidate=Side(said[RELEASE], (latest,)),
        percent=int(percent),
        rollout=said[ROLLOUT],
        salt=said[SALT],
        design=_design(said[DESIGN]),
    )


def _design(text: str) -> Design:
    return "interleaving" if text == "interleaving" else "ab"
