"""The baseline pipeline: a shop's data becomes a published release by supervised fine-tuning alone, without a judge."""

from typing import NamedTuple

from kfp import dsl

from components.evaluate.component import evaluate
from components.gate.component import gate
from components.prepare.component import prepare
from components.publish.component import publish
from components.sft.component import sft
from components.validate.component import validate


class Outputs(NamedTuple):
    """What a run hands out."""

    release: dsl.Model
    report: dsl.HTML
    metrics: dsl.Metrics


@dsl.pipeline(name="taoemb-sft")
def supervised(
    data: str,
    settings: str = "",
    encoder: str = "",
    baseline: str = "",
    milvus_uri: str = "",
    queries: int = 0,
    sft_steps: int = 0,
    ranks: int = 1,
    seed: int = -1,
    workspace: str = "",
) -> Outputs:
    """Validate, prepare, SFT, evaluate, gate, publish.

    Args:
        data: Dataset folder (items.parquet and, if there are any, queries, pairs, judgments).
        settings: Settings as YAML text; what it does not say has its default.
        encoder: Model to start from; empty: encoder.model of the settings.
        baseline: Release folder now in production that must be beaten; empty: the model as it came.
        milvus_uri: Milvus to publish to; empty: milvus.uri of the settings.
        queries: Training queries to generate for data without pairs; 0: queries.count of the settings.
        sft_steps: Steps of SFT; 0: sft.steps of the settings.
        ranks: Processes that train together in a step.
        seed: Seed of everything; -1: the seeds of the settings.
        workspace: Folder that outlives a step (a mounted volume): stopped training goes on there. Empty: none.

    Returns:
        release: The release that SFT trained.
        report: The evaluation, for people.
        metrics: The evaluation, for programs.
    """
    checked = validate(
        data=data,
        settings=settings,
        encoder=encoder,
        queries=queries,
        sft_steps=sft_steps,
        grpo_steps=0,
        seed=seed,
        judge_url="",
        heldout_judge_url="",
        milvus_uri=milvus_uri,
        rollout_plan="",
        rollout_target="",
    )
    part = checked.outputs
    checked.set_caching_options(False)  # data may change where it lies; the fingerprint carries that on

    prepared = prepare(data=data, digest=part["digest"], settings=part["prepare"])
    dataset = prepared.outputs["prepared"]
    trained = sft(settings=part["sft"], ranks=ranks, workspace=workspace, prepared=dataset)
    release = trained.outputs["release"]
    measured = evaluate(settings=part["evaluate"], baseline=baseline, prepared=dataset, release=release)
    decided = gate(settings=part["gate"], evaluation=measured.outputs["evaluation"])
    published = publish(settings=part["publish"], rollout_plan="", prepared=dataset, release=release)
    published.after(decided)

    for task in (decided, published):
        task.set_caching_options(False)  # a decision and a deed are never taken from an earlier run
    for task in (prepared, trained, measured, published):
        task.set_retry(2, backoff_duration="30s", backoff_factor=2.0)  # evicted pods; training goes on where it was
    return Outputs(release, measured.outputs["report"], measured.outputs["metrics"])
