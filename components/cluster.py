"""Where steps run on a cluster: their volume, Secret, nodes and GPUs, by run parameters. A local run reads none."""

from collections.abc import Iterable
from typing import Any

from kfp import dsl, kubernetes

from taoemb.config import PIPELINE_RUN

MOUNT = "/mnt/taoemb"
"""Where the volume with data, workspace and releases stands in every step; the chart mounts it there too."""
SECRETS = "/etc/taoemb/secrets"
"""Where the keys of the Secret stand as files, for settings like judge.api_key_file."""
GPU = "nvidia.com/gpu"


def place(tasks: Iterable[dsl.PipelineTask], volume: Any, secret: Any, tolerations: Any, node_selector: Any) -> None:
    """Give each task the volume, the Secret (if there is one of that name) and its nodes; all are run parameters."""
    for task in tasks:
        kubernetes.mount_pvc(task, pvc_name=volume, mount_path=MOUNT)
        kubernetes.use_secret_as_volume(task, secret_name=secret, mount_path=SECRETS, optional=True)
        kubernetes.add_toleration_json(task, tolerations)
        kubernetes.add_node_selector_json(task, node_selector)
        kubernetes.use_field_path_as_env(task, PIPELINE_RUN, "metadata.labels['pipeline/runid']")


def give_gpus(tasks: Iterable[dsl.PipelineTask], gpus: Any) -> None:
    """Give each task that many GPUs; 0 asks for none."""
    for task in tasks:
        task.set_accelerator_type(GPU).set_accelerator_limit(gpus)


def try_again(tasks: Iterable[dsl.PipelineTask]) -> None:
    """Evicted pods and lost nodes: training goes on from where it was."""
    for task in tasks:
        task.set_retry(2, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
