"""The whole loop on a small generated shop: the compiled pipeline, the baselines to read its result against, a rollout.

Everything is real (judge over HTTP, DeepSpeed, Milvus Lite, kfp.local, KServe, the gateway); only the size is small, so
the numbers show that the loop works and not how good the method is.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taoemb.config import Config
from taoemb.errors import InputError

if TYPE_CHECKING:
    from taoemb.jobs.demo_rollout import DemoRollout
    from taoemb.jobs.pipeline_local import LocalRun
    from taoemb.jobs.pipelines import Pipeline

SETTINGS = (
    "split={valid: 0.1, test: 0.3}",
    "judge_train={max_pairs: 4500, zero_shot: 0}",
    "sft={steps: 50, queries: 32, random_negatives: 32}",
    "hard_negatives={steps: 30, queries: 32, random_negatives: 0, negatives: 2}",
    "live_infonce={steps: 100, queries: 32, k: 16}",
    "grpo={steps: 100, queries: 32, k: 16, kl: 0.1}",
    "evaluation={judge_queries: 50}",
    "encoder={precision: auto}",
)
"""Settings of the demo, as overrides; what the user sets comes after and wins."""

KINDS = ("all", "plain", "long-tail", "negation", "alternative", "question", "knowledge")
METRIC = "ndcg@10"
HELDOUT_JUDGE = "train-judge-2"  # its step's name in pipelines/grpo.yaml


@dataclass(frozen=True)
class DemoResult:
    """Where things are, and the table of systems."""

    out: Path
    report: Path
    milvus: Path
    evaluation: Mapping[str, Any]
    rollout: "DemoRollout"

    def table(self) -> tuple[Sequence[str], list[list[str]]]:
        """METRIC by system and kind of query, each with its number of queries."""
        systems = self.evaluation["systems"]
        first = next(iter(systems.values()))["metrics"][METRIC]
        kinds = [kind for kind in KINDS if kind in first]
        head = ["system", *(f"{kind} ({first[kind]['queries']})" for kind in kinds)]
        rows = [
            [name, *(f"{own['metrics'][METRIC][kind]['value']:.3f}" for kind in kinds)] for name, own in systems.items()
        ]
        return head, rows


def run_demo(pipeline_file: Path, out: Path, items: int, queries: int, seed: int, config: Config) -> DemoResult:
    """Generate a shop, run the pipeline on it, train the baselines, compare all on held-out queries, roll out.

    Run again with the same `out`, finished parts are not done again, but the rollout is. Raises InputError for a
    missing pipeline file.
    """
    from taoemb.data.synth import synthesise
    from taoemb.encoder.release import load_release
    from taoemb.evaluation.run import compare_systems
    from taoemb.jobs.demo_rollout import roll_out
    from taoemb.jobs.pipelines import parse_arguments, read_pipeline
    from taoemb.jobs.steps import settings_text
    from taoemb.retrieval.publish import publish

    if not pipeline_file.is_file():
        raise InputError(f"{pipeline_file}: no such file; run in the project's folder, or give --pipeline FILE")
    shop = out / "shop"
    if not (shop / "items.parquet").exists():
        synthesise(shop, items, queries, seed)
    pipeline = read_pipeline(pipeline_file)
    given = [f"data={shop.resolve()}", f"settings={settings_text(config)}", f"seed={seed}"]
    run = _run_pipeline(pipeline, parse_arguments(pipeline, given), out / "pipeline")
    folders = {step.name: step.folder for step in run.steps if step.folder is not None}
    prepared, sft = folders["prepare"] / "prepared", folders["sft"] / "release"
    milvus = out / "pipeline" / "milvus.db"
    if run.steps[-1].name == "gate":  # refused: SFT is published instead, and the table shows why
        publish(load_release(sft), prepared / "test", config.milvus.model_copy(update={"uri": str(milvus)}))
    baselines = {
        "SFT + hard negatives": _train("hard_negatives", prepared / "train", sft, out, config),
        "live Top-K InfoNCE": _train("live_infonce", prepared / "train", sft, out, config),
    }
    systems: dict[str, str | Path] = {"BM25": "bm25", "zero-shot": config.encoder.model, "SFT": sft}
    systems |= baselines | {"SFT + GRPO": Path(run.outputs["release"])}
    comparison = out / "comparison"
    shutil.rmtree(comparison, ignore_errors=True)
    evaluation = compare_systems(systems, prepared / "test", comparison, config, baseline="SFT", subject="SFT + GRPO")
    judge = folders[HELDOUT_JUDGE] / "judge"
    rollout = roll_out(
        sft, Path(run.outputs["release"]), judge, prepared / "test", milvus, out / "rollout", config, seed
    )
    return DemoResult(out, comparison / "report.html", milvus, evaluation, rollout)


def _run_pipeline(pipeline: "Pipeline", arguments: Mapping[str, Any], out: Path) -> "LocalRun":
    """Run the pipeline; that the gate refuses the small run's release is a result, not a failure."""
    from taoemb.jobs.pipeline_local import StepFailed, run_local

    try:
        return run_local(pipeline, arguments, out)
    except StepFailed as failed:
        if failed.step != "gate":
            raise
        print(f"demo: {failed}", file=sys.stderr)
        return failed.run


def _train(objective: str, data: Path, release: Path, out: Path, config: Config) -> Path:
    """Train a baseline unless it is there; returns its release."""
    from taoemb.jobs.local import launch
    from taoemb.jobs.steps import settings_file, settings_text

    folder = out / objective.replace("_", "-")
    with settings_file(settings_text(config)) as settings:
        arguments = ["--config", str(settings), "--data", str(data), "--release", str(release), "--out", str(folder)]
        launch(objective, arguments)
    return folder / "release"
