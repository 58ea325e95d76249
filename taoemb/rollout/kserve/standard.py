"""What a rollout writes into an InferenceService in Standard mode (KServe from 0.20): `spec.canary[]`.

KServe lays a canary's fields over the stable predictor's, so an entry says only what differs. Promotion gives the
stable predictor exactly these differences and drops the entry in the same write: the canary's Deployment becomes the
stable's, its pod template stays as it is, and no pod restarts.
"""

from collections.abc import Mapping
from typing import Any

from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.kserve.scale import FIRST, other_side, remembered, written
from taoemb.serving.inference_service import (
    CONTROL,
    CONTROL_STORAGE,
    DESIGN,
    MODE_ANNOTATION,
    RELEASE,
    ROLLOUT,
    SALT,
    SCALE,
    SIDE,
    STORAGE,
    rollout_entry,
    storage_uri,
)
from taoemb.serving.kube import Json
from taoemb.serving.traffic import Design

_DIGITS = 10
_LONGEST_LABEL = 63  # of a Service's name
_NOT_FOR_CANARIES = ("workerSpec",)


def predictor_name(release: str) -> str:
    """Name of a release's predictor: DNS-1035, and the same whenever the release is rolled out."""
    return f"r{release[:_DIGITS].lower()}"


def deploy(
    service: Mapping[str, Any], candidate: Candidate, rollout: str, salt: str, design: Design, control: str
) -> Json | None:
    """Patch that starts the candidate dark (0 %); None when it stands there already.

    Raises InputError when another canary does, or the object can't have one.
    """
    own = rollout_entry(service, rollout)
    if own is not None and own["predictor"]["model"]["storageUri"] == candidate.location:
        return None
    check(service, candidate)
    stable = service["spec"]["predictor"]
    bounds = written(stable)
    said = {
        RELEASE: candidate.release,
        STORAGE: candidate.location,
        ROLLOUT: rollout,
        SALT: salt,
        DESIGN: design,
        CONTROL: control,
        CONTROL_STORAGE: storage_uri(service),
        SCALE: bounds.note(),
    }
    predictor = {
        "name": predictor_name(candidate.release),
        "annotations": said,
        "labels": {SIDE: other_side(stable)},
        "minReplicas": FIRST,
        # The bare CRD wants a name here; it is the one that KServe gives the container anyway.
        "model": {
            "name": "kserve-container",
            "modelFormat": stable["model"]["modelFormat"],
            "storageUri": candidate.location,
        },
    }
    canary = [{"predictor": predictor, "trafficPercent": 0}]
    return {"spec": {"predictor": bounds.beside(FIRST), "canary": canary}}


def resize(service: Mapping[str, Any], rollout: str, pods: int) -> Json | None:
    """Patch that gives the candidate so many pods and leaves the control its own; None when it stands so."""
    own = rollout_entry(service, rollout)
    bounds = None if own is None else remembered(own["predictor"])
    if own is None or bounds is None:
        return None
    stable, beside = service["spec"]["predictor"], bounds.beside(pods)
    if own["predictor"].get("minReplicas") == pods and all(stable.get(key) == beside[key] for key in beside):
        return None
    entry = {**own, "predictor": {**own["predictor"], "minReplicas": pods}}
    return {"spec": {"predictor": beside, "canary": [entry, *_others(service, own)]}}


def shift(service: Mapping[str, Any], rollout: str, percent: int) -> Json | None:
    """Patch that gives the candidate this share; None when it has it. Raises InputError when there is none."""
    own = rollout_entry(service, rollout)
    if own is None:
        raise InputError(f"rollout {rollout}: its canary is gone from the InferenceService; start the rollout again")
    if own["trafficPercent"] == percent:
        return None
    return {"spec": {"canary": [{**own, "trafficPercent": percent}, *_others(service, own)]}}


def promote(service: Mapping[str, Any], rollout: str) -> Json | None:
    """Patch that makes the candidate the stable predictor, without a restart; None when it is."""
    own = rollout_entry(service, rollout)
    if own is None:
        return None
    canary = own["predictor"]
    stable = {
        "name": canary["name"],
        "annotations": canary["annotations"],
        "model": {"storageUri": canary["model"]["storageUri"]},
        **({"labels": canary["labels"]} if "labels" in canary else {}),
        **_restored(canary),
    }
    return {"spec": {"predictor": stable, "canary": _others(service, own) or None}}


def rollback(service: Mapping[str, Any], rollout: str) -> Json | None:
    """Patch that drops the canary and gives the control its bounds back; None when the canary is gone."""
    own = rollout_entry(service, rollout)
    if own is None:
        return None
    restored = _restored(own["predictor"])
    return {"spec": {"canary": _others(service, own) or None} | ({"predictor": restored} if restored else {})}


def check(service: Mapping[str, Any], candidate: Candidate) -> None:
    """Raises InputError when the object can't have this canary."""
    metadata, spec = service["metadata"], service["spec"]
    where = f"InferenceService {metadata['namespace']}/{metadata['name']}"
    names = [entry["predictor"]["name"] for entry in spec.get("canary") or ()]
    if names:
        raise InputError(f"{where} has a canary already ({', '.join(names)}); one rollout at a time")
    if (metadata.get("annotations") or {}).get(MODE_ANNOTATION) != "Standard":
        raise InputError(f"{where}: KServe takes canaries only with the annotation {MODE_ANNOTATION}: Standard")
    storage_uri(service)
    for field in _NOT_FOR_CANARIES:
        if spec["predictor"].get(field):
            raise InputError(f"{where}: KServe allows no canary beside spec.predictor.{field}")
    longest = f"{metadata['name']}-{predictor_name(candidate.release)}-predictor"
    if len(longest) > _LONGEST_LABEL:
        raise InputError(f"{where}: the name is too long for a canary's Service ({longest}); use at most 40 letters")
    if predictor_name(candidate.release) == spec["predictor"].get("name"):
        raise InputError(f"{where} serves a release whose digest starts like the candidate's ({candidate.release})")


def _restored(canary: Mapping[str, Any]) -> Json:
    bounds = remembered(canary)
    return {} if bounds is None else bounds.restored()


def _others(service: Mapping[str, Any], own: Mapping[str, Any]) -> list[Json]:
    return [entry for entry in service["spec"]["canary"] if entry["predictor"]["name"] != own["predictor"]["name"]]
