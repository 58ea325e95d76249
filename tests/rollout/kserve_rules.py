"""KServe's rules for an InferenceService that no schema says, only its admission webhook."""

import re
from typing import Any

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_AUTOSCALING = ("maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling")


def broken(body: dict[str, Any]) -> list[str]:
    """Every rule that the object breaks, in words."""
    return [*_stable(body), *_canaries(body)]


def _stable(body: dict[str, Any]):
    name, stable = body["metadata"]["name"], body["spec"]["predictor"]
    if not _NAME.fullmatch(name):
        yield f"name {name}: not DNS-1035"
    if stable.get("model", {}).get("name"):
        yield "the 'name' field is not allowed in standard predictor"
    if stable.get("maxReplicas") and stable.get("minReplicas", 1) > stable["maxReplicas"]:
        yield "minReplicas cannot be greater than maxReplicas"
    percent = stable.get("canaryTrafficPercent")
    if percent is not None and not 0 <= percent <= 100:
        yield "canaryTrafficPercent: 0 to 100"


def _canaries(body: dict[str, Any]):
    spec, annotations = body["spec"], body["metadata"].get("annotations", {})
    canaries = spec.get("canary", [])
    if not canaries:
        return
    if annotations.get("serving.kserve.io/deploymentMode") != "Standard":
        yield "canary needs the annotation serving.kserve.io/deploymentMode: Standard"
    stable = spec["predictor"]
    if "model" not in stable:
        yield "canary needs spec.predictor.model"
    if sum(entry["trafficPercent"] for entry in canaries) > 100:
        yield "trafficPercent: the sum is over 100"
    names = [entry["predictor"].get("name") for entry in canaries]
    if not all(names) or len(set(names)) < len(names) or stable.get("name") in names:
        yield "each canary's predictor needs a name of its own"
    for entry in canaries:
        predictor = entry["predictor"]
        if any(field in predictor for field in _AUTOSCALING):
            yield "no autoscaling on a canary"
        if "workerSpec" in predictor or "workerSpec" in stable:
            yield "no workerSpec with a canary"
        if predictor.get("minReplicas", 0) > stable.get("minReplicas", 1):
            yield "a canary's minReplicas must not be more than the stable's"
        if not re.fullmatch(
            r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", f"{body['metadata']['name']}-{predictor['name']}-predictor"
        ):
            yield "the canary's Service name is not DNS-1035"
