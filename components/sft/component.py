"""Supervised fine-tuning of the starting encoder."""

from kfp import dsl

from components.base import component


@component
def sft(
    settings: str,
    ranks: int,
    gpus: int,
    workspace: str,
    prepared: dsl.Input[dsl.Dataset],
    release: dsl.Output[dsl.Model],
    log: dsl.Output[dsl.Artifact],
):
    """InfoNCE over in-batch and global random negatives.

    Args:
        settings: Sections `encoder`, `sft`, `engine` and `job` as YAML text.
        ranks: Processes that train together; 0: as many as `gpus`, else `job.ranks`.
        gpus: GPUs of the step.
        workspace: Folder that outlives the step: a stopped training goes on there. Empty: none.
        prepared: Dataset folders; the train part is used.
        release: The trained release.
        log: metrics.jsonl, TensorBoard events and a summary.
    """
    from pathlib import Path

    from taoemb.jobs import steps

    summary = steps.train(
        "sft",
        settings,
        {"data": Path(prepared.path) / "train"},
        release=Path(release.path),
        log=Path(log.path),
        ranks=ranks or gpus,
        workspace=workspace,
    )
    release.metadata.update({"digest": summary["digest"], "steps": summary["steps"]})
