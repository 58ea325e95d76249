"""What a live cluster lacks for the chart's pods to become ready, found out in seconds and told in words.

An API server takes every object of the chart, whether or not anybody acts on it: without KServe's controller, Milvus,
nodes or images a test would only wait for its time-out.
"""

import json
import time
from collections.abc import Callable
from urllib.parse import urlsplit

Kubectl = Callable[..., str]
"""Its arguments → its output."""
HOPELESS = {
    "ErrImagePull": "its image can't be pulled: push it, or load it into the nodes (docs/images.md)",
    "ImagePullBackOff": "its image can't be pulled: push it, or load it into the nodes (docs/images.md)",
    "InvalidImageName": "its image has no valid name",
    "CreateContainerConfigError": "a Secret or ConfigMap that it names is missing",
    "CrashLoopBackOff": "it ends again and again: see its log",
}


def missing_parts(kubectl: Kubectl, milvus_uri: str) -> list[str]:
    """What is not there, each with how to get it; asks three questions and waits for nothing."""
    found = []
    if not _items(kubectl("get", "nodes", "-o", "json")):
        found.append("nodes: this API server has none, so no pod starts")
    label = "control-plane=kserve-controller-manager"
    if not _items(kubectl("get", "deployments", "-A", "-l", label, "-o", "json")):
        found.append("KServe's controller: docs/kubernetes.md installs it")
    service, namespace, *_ = [*(urlsplit(milvus_uri).hostname or "").split("."), ""]
    slices = _items(kubectl("get", "endpointslices", "-A", "-l", f"kubernetes.io/service-name={service}", "-o", "json"))
    if not any(one["metadata"]["namespace"] == namespace and one.get("endpoints") for one in slices):
        found.append(f"Milvus at {milvus_uri}: docs/kubernetes.md installs it")
    return found


def wait_ready(kubectl: Kubectl, namespace: str, patience_s: float, pause_s: float = 1.0) -> list[str]:
    """Wait until all pods of a namespace are ready; else what each waits for: at once when one never will be."""
    deadline = time.monotonic() + patience_s
    while True:
        pods = _items(kubectl("-n", namespace, "get", "pods", "-o", "json"))
        waiting = [words for pod in pods if (words := _waits_for(pod))]
        if pods and not waiting:
            return []
        if any(_hopeless(pod) for pod in pods) or time.monotonic() > deadline:
            return waiting or [f"no pod came into being within {patience_s:g} s"]
        time.sleep(pause_s)


def _waits_for(pod: dict) -> str:
    """Empty for a pod that is ready or done."""
    status = pod.get("status", {})
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    if ready or status.get("phase") == "Succeeded":
        return ""
    reason = _hopeless(pod)
    why = HOPELESS.get(reason, "not ready")
    for one in status.get("conditions", ()):
        if one["type"] == "PodScheduled" and one["status"] == "False":
            why = f"no node takes it: {one.get('message', '')}"
    return f"pod {pod['metadata']['name']}: {why}"


def _hopeless(pod: dict) -> str:
    status = pod.get("status", {})
    states = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    reasons = [one.get("state", {}).get("waiting", {}).get("reason", "") for one in states]
    return next((reason for reason in reasons if reason in HOPELESS), "")


def _items(text: str) -> list[dict]:
    return list(json.loads(text)["items"])
