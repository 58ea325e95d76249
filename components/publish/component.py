"""Embeds the catalogue and makes a release the one that search uses."""

from kfp import dsl

from components.base import component


@component
def publish(
    settings: str,
    rollout_plan: str,
    prepared: dsl.Input[dsl.Dataset],
    release: dsl.Input[dsl.Model],
    published: dsl.Output[dsl.Artifact],
):
    """Fill and verify the release's Milvus collection, then move the alias; done again, it only does what is missing.

    Args:
        settings: Section `milvus` as YAML text.
        rollout_plan: Plan of the rollout that follows: the release is bound and waits for its verdict; empty: it
            becomes active at once.
        prepared: Dataset folders; the catalogue is the same in each.
        release: The release to publish.
        published: Collection, alias, counts and spot recall as JSON.
    """
    import json
    from dataclasses import asdict
    from pathlib import Path

    from taoemb.encoder.release import load_release
    from taoemb.jobs import steps
    from taoemb.retrieval.publish import publish as run

    config = steps.settings_from(settings)
    data = Path(prepared.path) / "train"
    done = asdict(run(load_release(Path(release.path)), data, config.milvus, activate=not rollout_plan))
    Path(published.path).write_text(json.dumps(done, indent=2), encoding="utf-8")
    published.metadata.update({name: value for name, value in done.items() if value is not None})
    print(json.dumps(done))
