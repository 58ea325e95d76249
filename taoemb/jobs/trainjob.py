"""A training run as a Kubeflow Trainer v2 TrainJob: the same module and arguments, on the nodes that the settings name.

The runtime (helm/taoemb makes `taoemb-torch` and `taoemb-deepspeed`) holds the image, the security context and the
artefacts' volume; the TrainJob says what to run, on how many machines, and patches what this site adds. Its containers
are called `node`, as in every runtime of Kubeflow Trainer.
"""

import hashlib
import json
from typing import Any

from taoemb.config import JobConfig
from taoemb.jobs.manifest import TRAIN_JOBS, WORK_ANNOTATION, Manifest, labels, resources, volumes_and_mounts
from taoemb.jobs.work import Work
from taoemb.serving.kube import Json

CONTAINER = "node"
MANAGER = "taoemb.io/jobs"
MPI_PORT = 29500
_SPARE_S = 10  # of the grace, for the launcher itself
_REPLICATED = {"torchrun": ("node",), "mpirun": ("launcher", "node")}


def train_job(work: Work, config: JobConfig, namespace: str, run: str = "") -> Manifest:
    """The TrainJob of `work`; `run` is the pipeline run that it belongs to."""
    spec: Json = {
        "runtimeRef": {
            "apiGroup": TRAIN_JOBS.group,
            "kind": config.runtime_kind,
            "name": config.runtime,
        },
        "trainer": _trainer(work, config),
        "runtimePatches": [_patch(config)],
    }
    metadata = {
        "name": work.name,
        "namespace": namespace,
        "labels": labels(config, run),
        "annotations": {WORK_ANNOTATION: _digest(spec)},
    }
    body = {"apiVersion": TRAIN_JOBS.api_version, "kind": "TrainJob", "metadata": metadata, "spec": spec}
    main = {
        "jobset.sigs.k8s.io/replicatedjob-name": _REPLICATED[config.launcher][0],
        "batch.kubernetes.io/job-completion-index": "0",
    }
    return Manifest(work.title, TRAIN_JOBS, body, f"jobset.sigs.k8s.io/jobset-name={work.name}", main)


def ranks_per_node(config: JobConfig) -> int:
    """Processes on one machine: as many as GPUs unless the settings say."""
    return config.ranks or config.gpus or 1


def _trainer(work: Work, config: JobConfig) -> Json:
    if config.launcher == "torchrun":
        command = ["torchrun", f"--shutdown-timeout={config.grace_s - _SPARE_S}", "-m", work.module]
    else:
        address = f"MASTER_ADDR={work.name}-launcher-0-0.{work.name}"
        command = ["mpirun", "-x", "PATH", "-x", address, "-x", f"MASTER_PORT={MPI_PORT}", "python", "-m", work.module]
    found: Json = {
        "command": command,
        "args": [*(("--config", config.settings) if config.settings else ()), *work.args],
        "numNodes": config.nodes,
        "numProcPerNode": ranks_per_node(config),
    }
    if config.image:
        found["image"] = config.image
    if needed := resources(config):
        found["resourcesPerNode"] = needed
    return found


def _patch(config: JobConfig) -> Json:
    """What this site adds to the runtime's pods, in each of its replicated jobs."""
    volumes, mounts = volumes_and_mounts(config)
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": config.grace_s}
    if volumes:
        pod |= {"volumes": volumes, "containers": [{"name": CONTAINER, "volumeMounts": mounts}]}
    if config.tolerations:
        pod["tolerations"] = list(config.tolerations)
    if config.node_selector:
        pod["nodeSelector"] = dict(config.node_selector)
    if config.service_account:
        pod["serviceAccountName"] = config.service_account
    jobs = [{"name": name, "template": {"spec": {"template": {"spec": pod}}}} for name in _REPLICATED[config.launcher]]
    return {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}


def _digest(spec: Json) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]
