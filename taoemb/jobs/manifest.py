"""What jobs/ asks a cluster for: an object, and where the pods are that it becomes.

The plain object rather than the Kubeflow SDK (0.5): its pod patches have no termination grace, without which a
preempted pod can't write its checkpoint; it can't set processes of a node without GPUs; and it hides the API server's
answers, which tell a job that runs already from one that is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from taoemb.config import JobConfig
from taoemb.serving.kube import Json, Kind

TRAIN_JOBS = Kind("trainer.kubeflow.org", "v1alpha1", "trainjobs")
JOBS = Kind("batch", "v1", "jobs")

RUN_LABEL = "taoemb.io/pipeline-run"
"""Names the pipeline run that a job belongs to."""
WORK_ANNOTATION = "taoemb.io/work"
"""Digest of what a job was asked to do."""


@dataclass(frozen=True)
class Manifest:
    """An object and its pods."""

    title: str
    kind: Kind
    body: Json
    pods: str
    """Label selector of all its pods."""
    main: Mapping[str, str] | None
    """Labels of the pod whose log is the job's; None: a job of many equals, of which progress is told."""

    @property
    def namespace(self) -> str:
        """Of the object."""
        return str(self.body["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """Of the object."""
        return str(self.body["metadata"]["name"])


def volumes_and_mounts(config: JobConfig) -> tuple[list[Json], list[Json]]:
    """The settings' claims and Secrets as a pod's volumes and a container's mounts."""
    volumes: list[Json] = []
    mounts: list[Json] = []
    for number, (claim, path) in enumerate(config.volumes.items(), 1):
        name = f"job-volume-{number}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": name, "mountPath": path})
    for number, (secret, path) in enumerate(config.secrets.items(), 1):
        name = f"job-secret-{number}"
        volumes.append({"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}})
        mounts.append({"name": name, "mountPath": path, "readOnly": True})
    return volumes, mounts


def resources(config: JobConfig) -> Json:
    """Requests and limits of one machine; empty when the settings leave them to the runtime."""
    limits: Json = {} if config.memory is None else {"memory": config.memory}
    requests: Json = dict(limits)
    if config.cpu is not None:
        requests["cpu"] = str(config.cpu)
    if config.gpus:
        limits[config.gpu_resource] = requests[config.gpu_resource] = str(config.gpus)
    return {key: value for key, value in (("limits", limits), ("requests", requests)) if value}


def labels(config: JobConfig, run: str) -> dict[str, str]:
    """Labels of the object: whose it is, and in which of Kueue's queues it waits."""
    found = {"app.kubernetes.io/part-of": "taoemb", "app.kubernetes.io/component": "training"}
    if run:
        found[RUN_LABEL] = run
    if config.queue:
        found["kueue.x-k8s.io/queue-name"] = config.queue
    if config.priority:
        found["kueue.x-k8s.io/priority-class"] = config.priority
    return found
