"""Rolls a release out by live traffic and waits for the verdict."""

from kfp import dsl

from components.base import component


@component
def rollout(
    settings: str,
    plan: str,
    target: str,
    storage: str,
    control: str,
    folder: str,
    verdict: dsl.Output[dsl.Metrics],
    release: dsl.Input[dsl.Model] = None,
):
    """Start the rollout, or go on with the one of this release; a candidate that is not promoted fails the step.

    Args:
        settings: Sections of the gateway, the encoders, the judge, Milvus and the events database as YAML text.
        plan: The plan as YAML text.
        target: kserve://NAMESPACE/INFERENCESERVICE, or a folder on this machine.
        storage: storageUri that KServe loads the release from; empty: where the artefact lies.
        control: Release folder that serves now; for rollouts on this machine.
        folder: Folder of the release, where no artefact is given.
        verdict: How it ended; the file holds the reasons as JSON.
        release: The release to roll out.
    """
    import json
    from dataclasses import asdict
    from pathlib import Path

    from taoemb.errors import TaoembError
    from taoemb.jobs import steps
    from taoemb.rollout.step import roll_out

    ended = roll_out(
        plan,
        target,
        Path(folder if release is None else release.path),
        steps.settings_from(settings),
        storage_uri=storage or ("" if release is None else release.uri.replace("minio://", "s3://", 1)),
        control=control,
        say=lambda line: print(line, flush=True),
    )
    Path(verdict.path).write_text(json.dumps(asdict(ended), indent=2, ensure_ascii=False), encoding="utf-8")
    verdict.log_metric("promoted", float(ended.phase == "Promoted"))
    if ended.phase != "Promoted":
        raise TaoembError(f"rollout {ended.rollout} ended as {ended.phase}: {ended.reason}")
    print(ended.reason)
