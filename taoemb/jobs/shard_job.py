"""The indexed Job that embeds the missing shards of a catalogue: one pod a shard, as many at once as the settings say.

A plain Job and no TrainJob, because shards know nothing of each other: none waits for the rest, one that fails does not
stop them, and a lost node costs the shard that it was at. Kubernetes itself tries a lost shard again.
"""

import hashlib
import shlex
from collections.abc import Sequence

from taoemb.config import JobConfig
from taoemb.jobs.manifest import JOBS, WORK_ANNOTATION, Manifest, labels, resources, volumes_and_mounts
from taoemb.jobs.pipelines import BASE_IMAGE
from taoemb.serving.kube import Json

CONTAINER = "node"
KEPT_S = 24 * 3600  # a finished Job, for those who look at its logs
_PROGRAM_FAILED = [1, 2]


def shard_job(
    title: str, name: str, command: Sequence[str], missing: Sequence[int], of: int, config: JobConfig, namespace: str
) -> Manifest:
    """`taoemb COMMAND --shard I/OF` for each I of `missing`; a pod's index picks its shard from the arguments."""
    script = f'shift "$JOB_COMPLETION_INDEX"; exec taoemb {shlex.join(command)} --shard "$1/{of}"'
    words = ["sh", "-c", script, "shard", *map(str, missing)]
    spec: Json = {
        "completionMode": "Indexed",
        "completions": len(missing),
        "parallelism": min(config.nodes, len(missing)),
        "backoffLimitPerIndex": config.retries,
        "ttlSecondsAfterFinished": KEPT_S,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
                {
                    "action": "FailIndex",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": _PROGRAM_FAILED},
                },
            ]
        },
        "template": {"metadata": {"labels": _labels(config)}, "spec": _pod(words, config)},
    }
    digest = hashlib.sha256(repr(words).encode()).hexdigest()[:16]
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": labels(config, ""),
        "annotations": {WORK_ANNOTATION: digest},
    }
    body = {"apiVersion": JOBS.api_version, "kind": "Job", "metadata": metadata, "spec": spec}
    return Manifest(title, JOBS, body, f"batch.kubernetes.io/job-name={name}", None)


def _labels(config: JobConfig) -> dict[str, str]:
    return {key: value for key, value in labels(config, "").items() if key.startswith("app.kubernetes.io/")}


def _pod(words: Sequence[str], config: JobConfig) -> Json:
    """A pod that meets the restricted Pod Security Standard; /tmp is all that it can write beside its volumes."""
    volumes, mounts = volumes_and_mounts(config)
    container: Json = {
        "name": CONTAINER,
        "image": config.image or BASE_IMAGE,
        "command": list(words),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 (a volume of the pod's own)
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [*mounts, {"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108 (a volume of the pod's own)
    }
    if needed := resources(config):
        container["resources"] = needed
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": config.grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [*volumes, {"name": "scratch", "emptyDir": {}}],
    }
    if config.tolerations:
        pod["tolerations"] = list(config.tolerations)
    if config.node_selector:
        pod["nodeSelector"] = dict(config.node_selector)
    if config.service_account:
        pod["serviceAccountName"] = config.service_account
    return pod
