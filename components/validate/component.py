"""Checks a run's data and settings before anything expensive starts."""

from typing import NamedTuple

from kfp import dsl

from components.base import component


@component
def validate(
    data: str,
    settings: str,
    encoder: str,
    queries: int,
    sft_steps: int,
    grpo_steps: int,
    seed: int,
    judge_url: str,
    heldout_judge_url: str,
    milvus_uri: str,
    rollout_plan: str,
    rollout_target: str,
    workspace: str,
    judged: bool,
    report: dsl.Output[dsl.Metrics],
) -> NamedTuple(
    "Checked",
    [
        ("digest", str),
        ("prepare", str),
        ("judge", str),
        ("heldout_judge", str),
        ("sft", str),
        ("grpo", str),
        ("evaluate", str),
        ("gate", str),
        ("publish", str),
        ("rollout", str),
    ],
):
    """Check the dataset and the settings, and give each later step its own part of the settings.

    Args:
        data: Dataset folder.
        settings: Settings as YAML text.
        encoder: Overrides `encoder.model`; empty: as in the settings.
        queries: Overrides `queries.count`; 0: as in the settings.
        sft_steps: Overrides `sft.steps`; 0: as in the settings.
        grpo_steps: Overrides `grpo.steps`; 0: as in the settings.
        seed: Overrides every seed; -1: as in the settings.
        judge_url: Overrides `judge.url`; empty: as in the settings.
        heldout_judge_url: Overrides `heldout_judge.url`; empty: as in the settings.
        milvus_uri: Overrides `milvus.uri`; empty: as in the settings.
        rollout_plan: Plan of the rollout at the run's end as YAML text; empty: none.
        rollout_target: Where that rollout will be.
        workspace: Folder that outlives a step; empty: none.
        judged: Whether a judge gives reward in this run.
        report: Counts of the dataset; its file holds the whole report as JSON.

    Returns:
        digest: Fingerprint of the data; the rest are the parts of the settings, a step each.
    """
    import json
    from pathlib import Path

    from taoemb.data.validate import validate as check
    from taoemb.errors import InputError
    from taoemb.jobs import steps
    from taoemb.rollout.step import check_request

    if rollout_plan:
        check_request(rollout_plan, rollout_target)
    chosen = {
        "encoder.model": encoder,
        "queries.count": queries,
        "sft.steps": sft_steps,
        "grpo.steps": grpo_steps,
        "judge.url": judge_url,
        "heldout_judge.url": heldout_judge_url,
        "milvus.uri": milvus_uri,
        **{f"{section}.seed": seed for section in ("split", "queries", "judge_train", "engine", "evaluation")},
    }
    config = steps.settings_from(settings, steps.run_overrides(chosen))
    steps.check_job(config, workspace, judged=judged)
    found = check(Path(data))
    Path(report.path).write_text(json.dumps(found.as_dict(), indent=2, ensure_ascii=False), encoding="utf-8")
    for name, count in found.counts.items():
        report.log_metric(name, count)
    if not found.ok:
        first = found.violations[0]
        raise InputError(f"{data}: {found.violation_count} violations, the first: {first}; see `taoemb data validate`")
    parts = steps.stage_settings(config)
    order = ("prepare", "judge", "heldout_judge", "sft", "grpo", "evaluate", "gate", "publish", "rollout")
    return (steps.fingerprint(Path(data)), *(parts[name] for name in order))
