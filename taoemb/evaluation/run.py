"""One evaluation from start to end: open, rank, measure, compare, decide, write."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from taoemb import __version__
from taoemb.config import Config
from taoemb.data.dataset import Dataset, open_dataset
from taoemb.errors import InputError
from taoemb.evaluation import gate, summary
from taoemb.evaluation.files import write_all
from taoemb.evaluation.grading import Grading, grade_rankings, heldout_client, refuse_reward_judge
from taoemb.evaluation.measured import Measured
from taoemb.evaluation.metrics import by_judge, largest_cutoff, names, per_query
from taoemb.evaluation.new_files import new_files
from taoemb.evaluation.qrels import group
from taoemb.evaluation.ranking import Ranking, rank_all
from taoemb.evaluation.slices import slice_masks
from taoemb.evaluation.systems import System, open_system
from taoemb.judge.client import JudgeClient
from taoemb.judge.probe import pairs_of, probe

FORMAT = 1


def evaluate(
    release: str | Path,
    data: Path,
    out: Path,
    config: Config,
    baseline: str | Path | None = None,
    judge: bool | Path = False,
) -> dict[str, Any]:
    """Evaluate a release (or a model name, zero-shot) on a dataset folder, paired against `baseline` when given.

    Writes metrics.json (metric → slice → {value, interval, queries}), evaluation.json (that and all the rest),
    report.html, per_query.parquet and run.parquet to `out`, and returns the content of evaluation.json. A held-out
    judge grades the top places too: with `judge=True` the one of `config.heldout_judge`, with a folder the judge in it,
    served meanwhile. Raises InputError for unusable input, and when that judge gave a system's reward.
    """
    systems: dict[str, str | Path] = {} if baseline is None else {"baseline": baseline}
    systems["release"] = release
    name = None if baseline is None else "baseline"
    return compare_systems(systems, data, out, config, baseline=name, subject="release", judge=judge)


def compare_systems(
    systems: Mapping[str, str | Path],
    data: Path,
    out: Path,
    config: Config,
    baseline: str | None = None,
    subject: str | None = None,
    judge: bool | Path = False,
) -> dict[str, Any]:
    """Evaluate several systems ("bm25", release folders, model names) on the same queries.

    Every system is compared with the one named `baseline`; `subject` (default: the last) is the one that metrics.json
    and the gate speak of. Writes the same files as :func:`evaluate`.
    """
    started = perf_counter()
    baseline, subject = _roles(systems, baseline, subject)
    opened = open_dataset(Path(data), need=("items", "queries") if judge else ("items", "queries", "judgments"))
    queries = _judged_queries(opened, bool(judge))
    ready = [open_system(name, source, config.encoder) for name, source in systems.items()]
    with new_files(Path(out)) as partial:
        measured, grading = _measure(opened, queries, ready, config, judge)
        evaluation = _evaluation(measured, ready, grading, config, baseline, subject)
        evaluation["seconds"]["total"] = perf_counter() - started
        write_all(partial, evaluation, measured)
    return evaluation


def check_gate_metric(config: Config, judge: bool) -> None:
    """Raise InputError before any work when the gate's metric will not be computed."""
    computed = names(config.evaluation, judge)
    if config.gate.metric not in computed:
        hint = "" if judge else "; metrics of a judge need --judge or --judge-url"
        known = ", ".join(computed)
        raise InputError(f"gate.metric {config.gate.metric!r} is not computed; choose one of {known}{hint}")


def _roles(systems: Mapping[str, str | Path], baseline: str | None, subject: str | None) -> tuple[str | None, str]:
    if not systems:
        raise InputError("nothing to evaluate: name a release or a system")
    subject = subject or list(systems)[-1]
    for role, name in (("baseline", baseline), ("subject", subject)):
        if name is not None and name not in systems:
            raise InputError(f"{role} {name!r} is none of the systems {', '.join(systems)}")
    if baseline == subject:
        raise InputError(f"{subject!r} is compared with itself; give another --baseline")
    return baseline, subject


def _judged_queries(data: Dataset, judge: bool) -> np.ndarray:
    """Rows of the queries to rank: those with a judgment; all of them when only a judge grades."""
    if data.judgments is not None and len(data.judgments):
        return np.unique(data.judgments.query_rows).astype(np.int64)
    if judge and len(data.queries):
        return np.arange(len(data.queries))
    raise InputError(
        f"{data.root}: no query has a judgment; add judgments.parquet (query_id, item_id, grade 1-4), "
        "or let a judge grade with --judge-url"
    )


def _measure(
    data: Dataset, query_rows: np.ndarray, systems: list[System], config: Config, judge: bool | Path
) -> tuple[Measured, Grading | None]:
    qrels = group(data.judgments, query_rows)
    texts = [data.queries.texts[row] for row in query_rows]
    masks = slice_masks([data.queries.slices[row] for row in query_rows], config.evaluation.template_slices)
    probed = 0
    with heldout_client(config, judge) if judge else nullcontext() as client:
        if client is not None:
            refuse_reward_judge(client.names, systems)
            probed = probe(client, pairs_of(data))
        rankings = rank_all(systems, texts, data.items, qrels, largest_cutoff(config.evaluation), config)
        grading = None if client is None else _grade(client, texts, data, rankings, config)
        if grading is not None:
            grading = replace(grading, asked=grading.asked + probed)
    values = {}
    for name, ranking in rankings.items():
        values[name] = per_query(qrels, ranking.rows_QK, ranking.judged_scores_J, config.evaluation)
        if grading is not None:
            values[name] |= by_judge(grading.grades[name], config.evaluation, config.evaluation.judge_depth)
    judged = {} if grading is None else grading.grades
    return Measured(data, query_rows, qrels, masks, rankings, values, judged), grading


def _grade(
    client: JudgeClient, texts: list[str], data: Dataset, rankings: Mapping[str, Ranking], config: Config
) -> Grading:
    """Grades of the top places of all queries, or of a seeded sample; the others are unanswered."""
    picked = _picked(len(texts), config)
    depth = config.evaluation.judge_depth
    tops = {name: ranking.rows_QK[picked, :depth] for name, ranking in rankings.items()}
    grading = grade_rankings(client, [texts[i] for i in picked], data.items, tops)
    return replace(grading, grades={name: _spread(part, picked, len(texts)) for name, part in grading.grades.items()})


def _picked(n_queries: int, config: Config) -> np.ndarray:
    most = config.evaluation.judge_queries
    if n_queries <= most:
        return np.arange(n_queries)
    return np.sort(np.random.default_rng(config.evaluation.seed).choice(n_queries, most, replace=False))


def _spread(grades: np.ndarray, picked: np.ndarray, n_queries: int) -> np.ndarray:
    """Grades of the picked queries among all; the others are unanswered."""
    table = np.zeros((n_queries, grades.shape[1]), dtype=np.int8)
    table[picked] = grades
    return table


def _evaluation(
    measured: Measured,
    systems: list[System],
    grading: Grading | None,
    config: Config,
    baseline: str | None,
    subject: str,
) -> dict[str, Any]:
    asked = config.evaluation
    tables: dict[str, dict[str, Any]] = {}
    for system in systems:
        values = measured.values[system.name]
        tables[system.name] = system.facts() | {"metrics": summary.means(values, measured.masks, asked)}
        if baseline is not None and system.name != baseline:
            against = measured.values[baseline]
            tables[system.name]["differences"] = summary.differences(values, against, measured.masks, asked)
    content: dict[str, Any] = {
        "format": FORMAT,
        "taoemb": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "subject": subject,
        "baseline": baseline,
        "systems": tables,
        "differences": tables[subject].get("differences"),
        "dataset": summary.dataset_facts(measured.data, measured.qrels, measured.query_rows, measured.masks),
        "judge": None if grading is None else grading.facts(),
        "config": {"evaluation": asked.model_dump(mode="json"), "gate": config.gate.model_dump(mode="json")},
        "seconds": {"ranking": {name: ranking.seconds for name, ranking in measured.rankings.items()}},
        "gate": None,
    }
    if baseline is not None and config.gate.metric in content["differences"]:
        content["gate"] = asdict(gate.check(content, config.gate))
    return content
