"""Measures a release beside what it has to beat."""

from kfp import dsl

from components.base import component


@component
def evaluate(
    settings: str,
    baseline: str,
    prepared: dsl.Input[dsl.Dataset],
    release: dsl.Input[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    evaluation: dsl.Output[dsl.Artifact],
    start: dsl.Input[dsl.Model] = None,
    heldout_judge: dsl.Input[dsl.Model] = None,
):
    """Rank the test queries with BM25, the model as it came, the starting release and the new one; compare and report.

    Args:
        settings: Sections `encoder`, `evaluation`, `gate` and `heldout_judge` as YAML text.
        baseline: Release folder to compare with; empty: the starting release, or without one the model as it came.
        prepared: Dataset folders; the test part is used.
        release: The release to measure.
        metrics: Its main numbers; the file is metrics.json (metric, slice, value and interval).
        report: The report for people.
        evaluation: Everything: evaluation.json, per_query.parquet, run.parquet and the above.
        start: The release that training started from.
        heldout_judge: Also grades the top places; it must not be the judge that gave reward.
    """
    import shutil
    from contextlib import nullcontext
    from pathlib import Path

    from taoemb.evaluation.artefacts import html, scalars
    from taoemb.evaluation.files import METRICS_FILE
    from taoemb.evaluation.run import compare_systems
    from taoemb.jobs import steps

    config = steps.settings_from(settings)
    systems = {"bm25": "bm25", "zero-shot": config.encoder.model}
    if start is not None:
        systems["start"] = start.path
    if baseline:
        systems["baseline"] = baseline
    against = next(reversed(systems))
    judged = heldout_judge is not None
    serving = steps.served("heldout_judge", config, Path(heldout_judge.path)) if judged else nullcontext([])
    with serving as overrides:
        found = compare_systems(
            {**systems, "release": release.path},
            Path(prepared.path) / "test",
            Path(evaluation.path),
            steps.settings_from(settings, overrides),
            baseline=against,
            subject="release",
            judge=judged,
        )
    shutil.copyfile(Path(evaluation.path) / METRICS_FILE, metrics.path)
    Path(report.path).write_text(html(Path(evaluation.path)), encoding="utf-8")
    for name, value in scalars(found).items():
        metrics.log_metric(name, value)
