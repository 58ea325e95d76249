"""Retrieval-GRPO: the policy retrieves, a judge grades live, the group-relative reward moves the encoder."""

from kfp import dsl

from components.base import component


@component
def grpo(
    settings: str,
    ranks: int,
    gpus: int,
    workspace: str,
    prepared: dsl.Input[dsl.Dataset],
    start: dsl.Input[dsl.Model],
    judge: dsl.Input[dsl.Model],
    heldout_judge: dsl.Input[dsl.Model],
    release: dsl.Output[dsl.Model],
    log: dsl.Output[dsl.Artifact],
):
    """Train with live rewards; judges without an endpoint are served on loopback for the time of the step.

    Args:
        settings: Sections `encoder`, `judge`, `heldout_judge`, `rewards`, `grpo`, `engine` and `job` as YAML text.
        ranks: Processes that train together; 0: as many as `gpus`, else `job.ranks`.
        gpus: GPUs of the step.
        workspace: Folder that outlives the step: a stopped training goes on there, judgments stay there.
        prepared: Dataset folders; the train part is used, and the valid part to try the judge on (`grpo.admission`).
        start: Release to start from.
        judge: The judge that gives reward, unless `judge.url` names an endpoint.
        heldout_judge: The judge that watches (`grpo.heldout_every`), unless `heldout_judge.url` names an endpoint.
        release: The trained release.
        log: metrics.jsonl, TensorBoard events and a summary.
    """
    from contextlib import ExitStack
    from pathlib import Path

    from taoemb.jobs import steps

    config = steps.settings_from(settings)
    steps.check_job(config, workspace, judged=True)
    with ExitStack() as stack:
        overrides = stack.enter_context(steps.served("judge", config, Path(judge.path)))
        if config.grpo.heldout_every:
            overrides += stack.enter_context(steps.served("heldout_judge", config, Path(heldout_judge.path)))
        if config.grpo.admission != "off" and config.grpo.admission_data is None:
            overrides.append(f"grpo.admission_data={Path(prepared.path) / 'valid'}")
        if workspace and config.judge.cache is None:
            overrides.append(f"judge.cache={Path(workspace) / 'judgments.sqlite'}")
        summary = steps.train(
            "grpo",
            settings,
            {"data": Path(prepared.path) / "train", "release": Path(start.path)},
            release=Path(release.path),
            log=Path(log.path),
            ranks=ranks or gpus,
            workspace=workspace,
            overrides=overrides,
        )
    release.metadata.update({"digest": summary["digest"], "steps": summary["steps"]})
