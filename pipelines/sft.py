"""The baseline pipeline: a shop's data becomes a published release by supervised fine-tuning alone, without a judge."""

from kfp import dsl

from components.cleanup.component import cleanup
from components.cluster import give_gpus, place, try_again
from components.evaluate.component import evaluate
from components.gate.component import gate
from components.prepare.component import prepare
from components.publish.component import publish
from components.sft.component import sft
from components.validate.component import validate


@dsl.pipeline(name="taoemb-sft")
def supervised(
    data: str,
    settings: str = "",
    encoder: str = "",
    baseline: str = "",
    milvus_uri: str = "",
    queries: int = 0,
    sft_steps: int = 0,
    ranks: int = 0,
    seed: int = -1,
    workspace: str = "",
    keep_days: int = 7,
    volume: str = "taoemb-artefacts",
    secret: str = "taoemb-secrets",
    gpus: int = 0,
    tolerations: list = [],  # noqa: B006 - kfp reads the default and never changes it
    node_selector: dict = {},  # noqa: B006
) -> None:
    """Validate, prepare, SFT, evaluate, gate, publish.

    Args:
        data: Dataset folder (items.parquet and, if there are any, queries, pairs, judgments).
        settings: Settings as YAML text; what it does not say has its default.
        encoder: Model to start from; empty: encoder.model of the settings.
        baseline: Release folder now in production that must be beaten; empty: the model as it came.
        milvus_uri: Milvus to publish to; empty: milvus.uri of the settings.
        queries: Training queries to generate for data without pairs; 0: queries.count of the settings.
        sft_steps: Steps of SFT; 0: sft.steps of the settings.
        ranks: Processes that train together in a step; 0: as many as `gpus`, else job.ranks of the settings.
        seed: Seed of everything; -1: the seeds of the settings.
        workspace: Folder that outlives a step (a mounted volume): stopped training goes on there. Empty: none.
        keep_days: Days that a stopped training is kept there for another run to go on with.
        volume: On a cluster: claim that every step mounts at /mnt/taoemb.
        secret: On a cluster: Secret whose keys every step finds as files in /etc/taoemb/secrets, if there is one.
        gpus: On a cluster: GPUs of each step that trains or embeds.
        tolerations: On a cluster: tolerations of every step's pod.
        node_selector: On a cluster: labels of the nodes that the steps run on.
    """
    cleaned = cleanup(settings=settings, workspace=workspace, keep_days=keep_days)
    cleaned.set_caching_options(False)
    place([cleaned], volume, secret, tolerations, node_selector)
    with dsl.ExitHandler(cleaned, name="clean up at the end"):
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
            workspace=workspace,
            judged=False,
        )
        part = checked.outputs
        checked.set_caching_options(False)  # data may change where it lies; the fingerprint carries that on

        prepared = prepare(data=data, digest=part["digest"], settings=part["prepare"])
        dataset = prepared.outputs["prepared"]
        trained = sft(settings=part["sft"], ranks=ranks, gpus=gpus, workspace=workspace, prepared=dataset)
        release = trained.outputs["release"]
        measured = evaluate(settings=part["evaluate"], baseline=baseline, prepared=dataset, release=release)
        decided = gate(settings=part["gate"], evaluation=measured.outputs["evaluation"])
        published = publish(settings=part["publish"], rollout_plan="", prepared=dataset, release=release)
        published.after(decided)

        for task in (decided, published):
            task.set_caching_options(False)  # a decision and a deed are never taken from an earlier run
        working = (prepared, trained, measured, published)
        try_again(working)
        give_gpus(working[1:], gpus)
        place((checked, *working, decided), volume, secret, tolerations, node_selector)
