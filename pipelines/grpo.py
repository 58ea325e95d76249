"""The product's main pipeline: a shop's data becomes a release trained with Retrieval-GRPO, published, rolled out."""

from kfp import dsl

from components.cleanup.component import cleanup
from components.cluster import give_gpus, place, try_again
from components.evaluate.component import evaluate
from components.gate.component import gate
from components.grpo.component import grpo
from components.prepare.component import prepare
from components.publish.component import publish
from components.rollout.component import rollout as roll_out
from components.sft.component import sft
from components.train_judge.component import train_judge
from components.validate.component import validate


@dsl.pipeline(name="taoemb-grpo")
def retrieval_grpo(
    data: str,
    settings: str = "",
    encoder: str = "",
    baseline: str = "",
    judge_url: str = "",
    heldout_judge_url: str = "",
    milvus_uri: str = "",
    queries: int = 0,
    sft_steps: int = 0,
    grpo_steps: int = 0,
    ranks: int = 0,
    seed: int = -1,
    workspace: str = "",
    keep_days: int = 7,
    rollout: str = "",
    rollout_target: str = "",
    rollout_storage: str = "",
    volume: str = "taoemb-artefacts",
    secret: str = "taoemb-secrets",
    gpus: int = 0,
    tolerations: list = [],  # noqa: B006 - kfp reads the default and never changes it
    node_selector: dict = {},  # noqa: B006
) -> None:
    """Validate, prepare, judges, SFT, Retrieval-GRPO, evaluate, gate, publish, rollout.

    Args:
        data: Dataset folder (items.parquet and, if there are any, queries, pairs, judgments).
        settings: Settings as YAML text; what it does not say has its default.
        encoder: Model to start from; empty: encoder.model of the settings.
        baseline: Release folder now in production that must be beaten; empty: this run's SFT release.
        judge_url: OpenAI routes of the judge that gives reward; empty: one is trained and served here.
        heldout_judge_url: OpenAI routes of the judge that watches and grades; empty: one is trained and served here.
        milvus_uri: Milvus to publish to; empty: milvus.uri of the settings.
        queries: Training queries to generate for data without pairs; 0: queries.count of the settings.
        sft_steps: Steps of SFT; 0: sft.steps of the settings.
        grpo_steps: Steps of Retrieval-GRPO; 0: grpo.steps of the settings.
        ranks: Processes that train together in a step; 0: as many as `gpus`, else job.ranks of the settings.
        seed: Seed of everything; -1: the seeds of the settings.
        workspace: Folder that outlives a step (a mounted volume): stopped training goes on there. Empty: none.
        keep_days: Days that a stopped training is kept there for another run to go on with.
        rollout: Plan of a rollout as YAML text, {} for its defaults; empty: the release becomes active without one.
        rollout_target: Where: kserve://NAMESPACE/INFERENCESERVICE, or a folder on this machine (then with `baseline`).
        rollout_storage: storageUri that KServe loads the release from; empty: where the artefact lies.
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
            grpo_steps=grpo_steps,
            seed=seed,
            judge_url=judge_url,
            heldout_judge_url=heldout_judge_url,
            milvus_uri=milvus_uri,
            rollout_plan=rollout,
            rollout_target=rollout_target,
            workspace=workspace,
            judged=True,
        )
        part = checked.outputs
        checked.set_caching_options(False)  # data may change where it lies; the fingerprint carries that on

        prepared = prepare(data=data, digest=part["digest"], settings=part["prepare"])
        dataset = prepared.outputs["prepared"]
        judge = train_judge(settings=part["judge"], role="judge", prepared=dataset)
        judge.set_display_name("reward judge")
        heldout = train_judge(settings=part["heldout_judge"], role="heldout_judge", prepared=dataset)
        heldout.set_display_name("held-out judge")
        start = sft(settings=part["sft"], ranks=ranks, gpus=gpus, workspace=workspace, prepared=dataset)
        trained = grpo(
            settings=part["grpo"],
            ranks=ranks,
            gpus=gpus,
            workspace=workspace,
            prepared=dataset,
            start=start.outputs["release"],
            judge=judge.outputs["judge"],
            heldout_judge=heldout.outputs["judge"],
        )
        measured = evaluate(
            settings=part["evaluate"],
            baseline=baseline,
            prepared=dataset,
            release=trained.outputs["release"],
            start=start.outputs["release"],
            heldout_judge=heldout.outputs["judge"],
        )
        decided = gate(settings=part["gate"], evaluation=measured.outputs["evaluation"])
        published = publish(
            settings=part["publish"], rollout_plan=rollout, prepared=dataset, release=trained.outputs["release"]
        )
        published.after(decided)
        with dsl.If(rollout != "", name="a rollout is asked for"):
            rolled = roll_out(
                settings=part["rollout"],
                plan=rollout,
                target=rollout_target,
                storage=rollout_storage,
                control=baseline,
                folder="",
                release=trained.outputs["release"],
            )
            rolled.after(published)

        for task in (decided, published, rolled):
            task.set_caching_options(False)  # a decision and a deed are never taken from an earlier run
        working = (prepared, judge, heldout, start, trained, measured, published)
        try_again((*working, rolled))
        give_gpus(working[1:], gpus)
        place((checked, *working, decided, rolled), volume, secret, tolerations, node_selector)
