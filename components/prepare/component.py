"""Makes the datasets that a run trains and is measured on."""

from kfp import dsl

from components.base import component


@component
def prepare(data: str, digest: str, settings: str, prepared: dsl.Output[dsl.Dataset]):
    """Split logged queries, or generate training queries for a catalogue without a log and split those.

    Args:
        data: Dataset folder.
        digest: Fingerprint of the data: changed data makes this step run again.
        settings: Sections `split` and `queries` as YAML text.
        prepared: Dataset folders `train`, `valid` and `test`.
    """
    from pathlib import Path

    from taoemb.jobs import steps
    from taoemb.jobs.prepare import prepare as run

    counts = run(Path(data), Path(prepared.path), steps.settings_from(settings))
    prepared.metadata.update({name: count for name, count in counts.items() if name != "out"})
    print(", ".join(f"{name}: {count}" for name, count in prepared.metadata.items()))
