"""`taoemb evaluate`: offline metrics, the report and the gate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, Table, emit, settings
from taoemb.errors import InputError, TaoembError

SHOWN = ("hitrate", "recall", "ndcg_condensed", "goodrate", "pair_accuracy", "judge_goodrate")


def evaluate(
    data: Annotated[Path, typer.Option("--data", help="Dataset folder: items, queries, judgments.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for metrics.json, evaluation.json and report.html.")],
    release: Annotated[
        str | None, typer.Option("--release", help="Release folder, or a model name for zero-shot.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Release folder, model name, bm25, or the name of a --systems.")
    ] = None,
    systems: Annotated[
        list[str] | None,
        typer.Option("--systems", metavar="NAME=PATH", help="One more system (repeatable)."),
    ] = None,
    judge_url: Annotated[str | None, typer.Option("--judge-url", help="Base URL of a held-out judge.")] = None,
    judge: Annotated[Path | None, typer.Option("--judge", help="Folder of a held-out judge, served meanwhile.")] = None,
    gate: Annotated[bool, typer.Option("--gate", help="Exit with 1 when the gate fails.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the whole catalogue, measure, compare with a baseline, and write a report."""
    tree = settings(config, overrides)
    named, against, subject = _systems(release, baseline, systems or ())
    if judge is not None and judge_url is not None:
        raise InputError("give --judge-url or --judge, not both")
    if gate and against is None:
        raise InputError("--gate compares with a baseline; give --baseline")
    from taoemb.evaluation.grading import heldout_settings
    from taoemb.evaluation.run import check_gate_metric, compare_systems

    if judge_url is not None:
        held = heldout_settings(tree).model_copy(update={"url": judge_url})
        tree = tree.model_copy(update={"heldout_judge": held})
    grader = judge or tree.heldout_judge is not None
    if gate:
        check_gate_metric(tree, judge=bool(grader))
    evaluation = compare_systems(named, data, out, tree, baseline=against, subject=subject, judge=grader)
    result = {"out": str(out), "report": str(out / "report.html"), **_result(evaluation)}
    emit(result, as_json, title=f"{out / 'report.html'}", table=_table(evaluation))
    if gate:
        verdict = evaluation["gate"]
        if verdict is None or not verdict["passed"]:
            failures = ["its metric is defined for no query"] if verdict is None else verdict["failures"]
            raise TaoembError(f"the gate refuses {subject}: {'; '.join(failures)}")


def _systems(
    release: str | None, baseline: str | None, systems: Sequence[str]
) -> tuple[dict[str, str], str | None, str]:
    """Systems by name in the order of the report, the baseline's name, and the one that the gate is about."""
    named: dict[str, str] = {}
    for text in systems:
        name, equals, path = text.partition("=")
        if not equals or not name.strip() or not path.strip():
            raise InputError(f"--systems {text!r}: expected NAME=PATH, e.g. --systems sft=runs/sft/release")
        if name.strip() in named or name.strip() in ("release", "baseline"):
            raise InputError(f"--systems {text!r}: the name {name.strip()!r} is taken; choose another")
        named[name.strip()] = path.strip()
    if release is None and not named:
        raise InputError("nothing to evaluate; give --release DIR or --systems NAME=PATH")
    against = baseline
    if baseline is not None and baseline not in named:
        named["baseline"], against = baseline, "baseline"
    if release is not None:
        named["release"] = release
    subject = "release" if release is not None else [name for name in named if name != "baseline"][-1]
    return named, against, subject


def _result(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    subject = evaluation["systems"][evaluation["subject"]]
    return {
        "subject": evaluation["subject"],
        "baseline": evaluation["baseline"],
        "digest": subject.get("digest"),
        "queries": evaluation["dataset"]["evaluated_queries"],
        "metrics": {name: system["metrics"] for name, system in evaluation["systems"].items()},
        "differences": evaluation["differences"],
        "gate": evaluation["gate"],
    }


def _table(evaluation: Mapping[str, Any]) -> Table:
    """All queries: a row a metric, a column a system, and the subject's difference to the baseline."""
    systems, differences = evaluation["systems"], evaluation["differences"]
    metrics = systems[evaluation["subject"]]["metrics"]
    shown = [metric for metric in metrics if metric.partition("@")[0] in SHOWN]
    columns = ["metric", *systems, *([f"{evaluation['subject']} − {evaluation['baseline']}"] if differences else [])]
    rows = []
    for metric in shown:
        cells = [system["metrics"].get(metric, {}).get("all") for system in systems.values()]
        row = [metric, *(f"{cell['value']:.3f}" if cell else "–" for cell in cells)]
        if differences:
            change = differences.get(metric, {}).get("all")
            row.append(f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]" if change else "–")
        rows.append(row)
    return columns, rows
