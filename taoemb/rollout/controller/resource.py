"""An EncoderRollout as the library sees it: the plan in its spec, the state in its status.

The spec holds a Plan field by field, in Kubernetes' camelCase; `manifests/crds/encoderrollout.yaml` is generated from
the same class (taoemb.rollout.controller.crd).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.plan import Plan, parse_plan
from taoemb.serving.kube import Json, Kind

GROUP, VERSION, PLURAL, KIND = "taoemb.io", "v1alpha1", "encoderrollouts", "EncoderRollout"
ENCODER_ROLLOUTS = Kind(GROUP, VERSION, PLURAL)
FINALIZER = "taoemb.io/rollback"
_UID_DIGITS = 8


@dataclass(frozen=True)
class Wish:
    """What a person asks for in `spec.request`."""

    action: str
    reason: str


@dataclass(frozen=True)
class Resource:
    """One EncoderRollout."""

    namespace: str
    name: str
    uid: str
    generation: int
    inference_service: str
    candidate: Candidate
    request: Wish | None
    paused: bool
    pause_reason: str
    deleting: bool
    body: Json
    """The whole object, as it was read."""

    @property
    def rollout(self) -> str:
        """Name of the rollout in annotations and in the events database: another object of this name is another one."""
        return f"{self.namespace}.{self.name}.{self.uid[:_UID_DIGITS]}"

    @property
    def status(self) -> Json:
        """The status, empty before the first look."""
        return dict(self.body.get("status") or {})

    @property
    def finalized(self) -> bool:
        """Whether its deletion waits for the rollback."""
        return FINALIZER in self.body["metadata"].get("finalizers", ())

    def plan(self) -> Plan:
        """Its plan. Raises InputError with the key that is wrong."""
        return plan_from_spec(self.body["spec"].get("plan", {}), f"EncoderRollout {self.namespace}/{self.name}: plan")


def parse_resource(body: Json) -> Resource:
    """Read an object. Raises InputError when it lacks what the schema demands."""
    metadata = body["metadata"]
    try:
        spec = body["spec"]
        request = spec.get("request")
        return Resource(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            generation=int(metadata.get("generation", 1)),
            inference_service=spec["inferenceService"],
            candidate=Candidate(spec["candidate"]["release"], spec["candidate"]["storageUri"]),
            request=None if request is None else Wish(request["action"], request.get("reason", "")),
            paused=bool(spec.get("paused", False)),
            pause_reason=spec.get("pauseReason", ""),
            deleting=metadata.get("deletionTimestamp") is not None,
            body=body,
        )
    except KeyError as error:
        raise InputError(f"EncoderRollout {metadata['namespace']}/{metadata['name']}: spec lacks {error}") from None


def new_resource(namespace: str, name: str, inference_service: str, candidate: Candidate, plan: Plan) -> Json:
    """The object that starts a rollout."""
    return {
        "apiVersion": ENCODER_ROLLOUTS.api_version,
        "kind": KIND,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "inferenceService": inference_service,
            "candidate": {"release": candidate.release, "storageUri": candidate.location},
            "plan": plan_to_spec(plan),
        },
    }


def plan_to_spec(plan: Plan) -> Json:
    """A plan as it stands in a spec: what is not set has its default there too."""
    tree: Json = _renamed(plan.model_dump(mode="json", exclude_none=True), camel)
    for step in tree["steps"]:
        if step["percent"] != int(step["percent"]):
            raise InputError(f"steps: percent {step['percent']}: KServe splits in whole percents")
        step["percent"] = int(step["percent"])
    return tree


def plan_from_spec(tree: Mapping[str, Any], where: str) -> Plan:
    """The plan of a spec. Raises InputError."""
    return parse_plan(_renamed(tree, snake), where)


def camel(name: str) -> str:
    """min_slice_units → minSliceUnits."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def snake(name: str) -> str:
    """minSliceUnits → min_slice_units."""
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def _renamed(tree: Any, rename: Any) -> Any:
    """The same tree with other keys; a plan holds no mapping whose keys are data."""
    if isinstance(tree, Mapping):
        return {rename(key): _renamed(value, rename) for key, value in tree.items()}
    return [_renamed(value, rename) for value in tree] if isinstance(tree, list) else tree
