"""The chart as real Helm renders it, for each file of values in ci/."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.kube_tools import KubeTools, Unavailable, kube_tools

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "taoemb"
MATRIX = sorted(file.name.removesuffix("-values.yaml") for file in (CHART / "ci").glob("*-values.yaml"))
NAMESPACE, RELEASE = "search", "taoemb"
CORE = {
    "v1",
    "apps/v1",
    "batch/v1",
    "autoscaling/v2",
    "policy/v1",
    "coordination.k8s.io/v1",
    "networking.k8s.io/v1",
    "rbac.authorization.k8s.io/v1",
    "apiextensions.k8s.io/v1",
}
Object = dict[str, Any]


def tools() -> KubeTools:
    """Helm and kubectl; skips the test and says how to get them."""
    try:
        return kube_tools()
    except Unavailable as reason:
        pytest.skip(str(reason))


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm, which sees no cluster."""
    command = [str(tools().helm), *arguments, "--kubeconfig=/dev/null"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def template(values: str, *more: str, assume: bool = True) -> subprocess.CompletedProcess[str]:
    """`helm template` with a file of ci/."""
    given = ["--namespace", NAMESPACE, "--values", str(CHART / "ci" / f"{values}-values.yaml")]
    assumed = ["--set", "assumeApis=true"] if assume else []
    return helm("template", RELEASE, str(CHART), *given, *assumed, *more)


@lru_cache
def rendered(values: str, *more: str) -> str:
    """The whole render as text."""
    done = template(values, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(values: str, *more: str) -> list[Object]:
    """Every object of a render, a fresh copy."""
    return [tree for tree in yaml.load_all(rendered(values, *more), yaml.CSafeLoader) if tree]


def of_kind(found: Sequence[Object], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [one for one in found if one["kind"] in kinds]


def name_of(one: Object) -> str:
    """Kind and name, for messages."""
    return f"{one['kind']} {one['metadata']['name']}"


def pod_templates(found: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod that would come of these objects, as {metadata.labels, spec}, KServe's included."""
    runtimes = {one["metadata"]["name"]: one["spec"] for one in of_kind(found, "ServingRuntime")}
    for one in found:
        if one["kind"] == "Deployment":
            yield name_of(one), one["spec"]["template"]
        elif one["kind"] == "CronJob":
            yield name_of(one), one["spec"]["jobTemplate"]["spec"]["template"]
        elif one["kind"] == "Pod":
            yield name_of(one), one
        elif one["kind"] == "InferenceService":
            yield name_of(one), _predictor_pod(one, runtimes)
        elif one["kind"] in ("TrainingRuntime", "ClusterTrainingRuntime"):
            for job in one["spec"]["template"]["spec"]["replicatedJobs"]:
                yield f"{name_of(one)} {job['name']}", job["template"]["spec"]["template"]


def _predictor_pod(service: Object, runtimes: dict[str, Object]) -> Object:
    """The pod that KServe makes: the runtime's, with the InferenceService's model laid over its container."""
    predictor = service["spec"]["predictor"]
    model = predictor["model"]
    runtime = runtimes.get(model["runtime"], {"containers": [{"name": "kserve-container"}], "volumes": []})
    (container,) = json.loads(json.dumps(runtime["containers"]))
    container["args"] = [*container.get("args", ()), *model.get("args", ())]
    own = ("resources", "securityContext", "volumeMounts", "ports", "env", "readinessProbe")
    container |= {key: model[key] for key in own if key in model}
    spec = {key: value for key, value in predictor.items() if key not in ("model", "annotations")}
    spec |= {"containers": [container], "volumes": [*runtime.get("volumes", ()), *predictor.get("volumes", ())]}
    name = service["metadata"]["name"]
    labels = service["metadata"]["labels"] | {"serving.kserve.io/inferenceservice": name, "component": "predictor"}
    return {"metadata": {"labels": labels}, "spec": spec}


def selects(selector: Object, labels: Object) -> bool:
    """Whether a label selector matches."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(_holds(one, labels) for one in selector.get("matchExpressions", ()))


def _holds(expression: Object, labels: Object) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case operator:
            assert operator == "DoesNotExist"
            return value is None
