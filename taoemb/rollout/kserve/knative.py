"""What a rollout writes into an InferenceService in Knative mode: `canaryTrafficPercent` and tagged revisions.

There is one predictor. A new storageUri makes a new revision, reached at `latest-…`; the last one that had all traffic
stays at `prev-…`. Rolling back therefore takes two writes: the control's storageUri comes back as a third revision
without traffic, and only when that one answers is the split removed. In between, `prev-…` serves.
"""

from collections.abc import Mapping
from typing import Any

from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.serving.inference_service import (
    CONTROL,
    CONTROL_STORAGE,
    DESIGN,
    RELEASE,
    ROLLOUT,
    SALT,
    STORAGE,
    TAG_ROUTING,
    notes,
    storage_uri,
)
from taoemb.serving.kube import Json
from taoemb.serving.traffic import Design

_PERCENT = "canaryTrafficPercent"


def deploy(
    service: Mapping[str, Any], candidate: Candidate, rollout: str, salt: str, design: Design, control: str
) -> Json | None:
    """Patch that starts the candidate's revision with no traffic; None when it stands there already.

    Raises InputError when the object is being split already, or its revisions can't be told apart.
    """
    if _ours(service, rollout):
        return None
    check(service, candidate)
    said = {
        RELEASE: candidate.release,
        STORAGE: candidate.location,
        ROLLOUT: rollout,
        SALT: salt,
        DESIGN: design,
        CONTROL: control,
        CONTROL_STORAGE: storage_uri(service),
    }
    return _predictor(annotations=said, model={"storageUri": candidate.location}, **{_PERCENT: 0})


def check(service: Mapping[str, Any], candidate: Candidate) -> None:
    """Raises InputError when the object can't be split between its release and this one."""
    metadata, predictor = service["metadata"], service["spec"]["predictor"]
    where = f"InferenceService {metadata['namespace']}/{metadata['name']}"
    if predictor.get(_PERCENT) is not None:
        raise InputError(f"{where} is split already ({_PERCENT}: {predictor[_PERCENT]}); one rollout at a time")
    if (metadata.get("annotations") or {}).get(TAG_ROUTING) != "true":
        raise InputError(f'{where}: give it the annotation {TAG_ROUTING}: "true"')
    if storage_uri(service) == candidate.location:
        raise InputError(f"{where} loads from {candidate.location} already; give the candidate a storageUri of its own")


def shift(service: Mapping[str, Any], rollout: str, percent: int) -> Json | None:
    """Patch that gives the candidate this share; None when it has it. Raises InputError when there is none."""
    if not _ours(service, rollout):
        raise InputError(f"rollout {rollout}: its split is gone from the InferenceService; start the rollout again")
    if service["spec"]["predictor"][_PERCENT] == percent:
        return None
    return _predictor(**{_PERCENT: percent})


def promote(service: Mapping[str, Any], rollout: str) -> Json | None:
    """Patch that gives the candidate's revision everything; None when it has it."""
    return _predictor(**{_PERCENT: None}) if _ours(service, rollout) else None


def rollback(service: Mapping[str, Any], rollout: str) -> Json | None:
    """First patch of a rollback: the control's storageUri comes back as a revision without traffic; None when done."""
    if not _ours(service, rollout):
        return None
    said = notes(service["spec"]["predictor"])
    kept = {RELEASE: said[CONTROL], STORAGE: said[CONTROL_STORAGE]}
    dropped = dict.fromkeys((ROLLOUT, SALT, DESIGN, CONTROL, CONTROL_STORAGE))
    return _predictor(annotations={**kept, **dropped}, model={"storageUri": said[CONTROL_STORAGE]}, **{_PERCENT: 0})


def returning(service: Mapping[str, Any]) -> bool:
    """Whether a rollback's first patch was made and its second one not yet."""
    predictor = service["spec"]["predictor"]
    return predictor.get(_PERCENT) is not None and ROLLOUT not in notes(predictor) and RELEASE in notes(predictor)


def finish_rollback(service: Mapping[str, Any]) -> Json | None:
    """Second patch, once the control's new revision answers: the split is removed."""
    return _predictor(**{_PERCENT: None}) if returning(service) else None


def _ours(service: Mapping[str, Any], rollout: str) -> bool:
    predictor = service["spec"]["predictor"]
    return predictor.get(_PERCENT) is not None and notes(predictor).get(ROLLOUT) == rollout


def _predictor(**fields: Any) -> Json:
    return {"spec": {"predictor": fields}}
