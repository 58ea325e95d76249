"""Quality on real items with human grades: what the default pipeline brings a shop, step by step.

    python -m benchmarks.quality.human                 # everything, ../shared/data/chorus
    python -m benchmarks.quality.human --quick         # a try-out that saves nothing
    python -m benchmarks.quality.human --seeds 3 --controls

Training sees items only: queries are generated from the catalogue, and no human query or grade enters it. The present
item template and lengths of queries were chosen with these human queries in sight, so that the gain of `now` over
`before` is a little flattered. Steps and batches are equal for all systems, and fewer than the defaults'.

The grades' pool came from word matching, so what nobody judged may be relevant: pair accuracy, condensed nDCG and bpref
use judged items alone. Recall is over the judged items and a random sample of the others.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.record import Aim, Record, Table
from taoemb.config import Config, load_config
from taoemb.data.dataset import Dataset, open_dataset
from taoemb.data.files import link
from taoemb.data.queries import generate_queries
from taoemb.data.split import split
from taoemb.encoder.model import load_encoder
from taoemb.encoder.release import load_release, save_release
from taoemb.evaluation.bootstrap import Estimate, intervals
from taoemb.evaluation.metrics import per_query
from taoemb.evaluation.qrels import Qrels, group
from taoemb.evaluation.ranking import rank_all
from taoemb.evaluation.systems import BM25, System, open_system
from taoemb.judge.local import running_judge
from taoemb.judge.train import train_judge
from taoemb.training.soup import blend

METRICS = ("pair_accuracy", "ndcg_condensed@10", "bpref", "recall@100")
TRIED = (
    "Human grades are few (2,040; a query in three has one kind of grade only): a gain below about .02 can hardly be "
    "told from none. Tried for SFT: texts, shorter queries, known answers, blends with the starting weights. Tried "
    "for Retrieval-GRPO: a trained judge (held-out AUC .85), 40 steps, alone and blended half-way with its start. That "
    "judge learns from rule grades; not tried: one with people's grades, an LLM, an ensemble, other weights of the KL."
)
OLD_KINDS = {
    "type": 0.06,
    "brand": 0.0,
    "brand-type": 0.14,
    "attribute": 0.19,
    "brand-attribute": 0.12,
    "series": 0.11,
    "model": 0.09,
    "compatible": 0.13,
    "title": 0.09,
    "feature": 0.04,
    "negation": 0.03,
}
OLD_TEMPLATE = "{title}"
SHARE = 0.7  # `sft.soup` of the blend that is tried beside the trained weights alone
OLD, NEW, READS = "before", "now", "items as now, queries as before"
BM25_NAME, GRPO, START = "BM25", "SFT, now + Retrieval-GRPO", "SFT, now (seed 0)"
CONTROLS = {"live_infonce": "SFT, now + InfoNCE on the live Top-K", "hard_negatives": "SFT, now + hard negatives"}

Values = dict[str, np.ndarray]  # metric → a value a query


@dataclass(frozen=True)
class Size:
    """How much is done."""

    steps: int = 50
    queries: int = 32
    generated: int = 6000
    others: int = 1000  # items of the sample beside the judged ones
    held_out: float = 0.03  # share of the generated queries
    judge_pairs: int = 3000
    grpo_items: int = 4000
    grpo_steps: int = 40


QUICK = Size(3, 8, 300, 50, 0.05, 200, 300, 3)


def overrides(size: Size, seed: int, *more: str) -> list[str]:
    """The defaults, at the size and seed of this run; `more` comes last and wins."""
    batch = f"{{steps: {size.steps}, queries: {size.queries}, random_negatives: {size.queries}}}"
    tuned = f"{{steps: {size.grpo_steps}, queries: {size.queries}, k: 16}}"
    hard = f"{{steps: {size.grpo_steps}, queries: {size.queries}, random_negatives: 0, negatives: 2}}"
    sets = [f"sft={batch}", f"grpo={tuned}", f"live_infonce={tuned}", f"hard_negatives={hard}", "engine.trackers=[]"]
    sets += [
        f"engine.seed={seed}",
        f"queries={{count: {size.generated}, seed: {seed}}}",
        f"split={{valid: {size.held_out}, test: 0}}",
    ]
    sets += ["encoder.precision=bf16", "judge.batch_size=64", f"judge_train.max_pairs={size.judge_pairs}"]
    sets += ["evaluation={hitrate: [10], recall: [100], goodrate: [10]}"]
    return [*sets, *more]


def settings(size: Size, seed: int, *more: str) -> Config:
    """The settings of `overrides`."""
    return load_config(None, overrides(size, seed, *more))


def train_apart(objective: str, data: Path, out: Path, sets: Sequence[str], start: Path | None = None) -> Path:
    """Run a training job in a process of its own, as jobs are; its release."""
    command = [sys.executable, "-m", f"taoemb.training.{objective}", "--data", str(data), "--out", str(out)]
    command += ["--release", str(start)] if start else []
    command += [part for setting in sets for part in ("--set", setting)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{objective}: {done.stderr.strip().splitlines()[-1]}")
    return out / "release"


def recipe(which: str) -> list[str]:
    """Settings that make the earlier defaults of the present ones."""
    if which == NEW:
        return []
    kinds = ", ".join(f"{kind}: {share}" for kind, share in OLD_KINDS.items())
    queries = [f"queries.kinds={{{kinds}}}", "queries.max_known=0"]
    return queries if which == READS else [f"encoder.item_template='{OLD_TEMPLATE}'", *queries]


def sample(data: Path, out: Path, others: int) -> Path:
    """A dataset of the judged items of `data` and `others` more, with its queries and grades."""
    items = pq.read_table(data / "items.parquet")
    judged = pc.unique(pq.read_table(data / "judgments.parquet").column("item_id"))
    is_judged = pc.is_in(items.column("item_id"), value_set=judged).to_numpy()
    drawn = np.random.default_rng(0).choice(np.flatnonzero(~is_judged), others, replace=False)
    out.mkdir()
    rows = np.sort(np.concatenate([np.flatnonzero(is_judged), drawn]))
    pq.write_table(items.take(pa.array(rows)), out / "items.parquet")
    for table in ("queries", "judgments"):
        link(data / f"{table}.parquet", out / f"{table}.parquet")
    return out


def smaller(data: Path, out: Path, size: Size) -> Path:
    """`data` with a random part of its items, and what names them: what live Top-K is taken from stays affordable."""
    items = pq.read_table(data / "items.parquet")
    rows = np.random.default_rng(1).choice(len(items), min(size.grpo_items, len(items)), replace=False)
    kept = items.take(pa.array(np.sort(rows)))
    out.mkdir()
    pq.write_table(kept, out / "items.parquet")
    ids = kept.column("item_id").combine_chunks()
    named = {}
    for table in ("pairs", "judgments"):
        named[table] = pq.read_table(data / f"{table}.parquet")
        named[table] = named[table].filter(pc.is_in(named[table].column("item_id"), value_set=ids))
    drawn = named["pairs"].filter(pc.greater(named["pairs"].column("weight"), 0)).column("query_id")
    asked = pc.unique(drawn)
    named["queries"] = pq.read_table(data / "queries.parquet")
    for table, rows_of in named.items():
        pq.write_table(rows_of.filter(pc.is_in(rows_of.column("query_id"), value_set=asked)), out / f"{table}.parquet")
    return out


class Human:
    """Measures systems on a dataset's graded queries."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.data: Dataset = open_dataset(folder, need=("items", "queries", "judgments"))
        self.config = config
        self.rows = np.arange(len(self.data.queries))
        self.qrels: Qrels = group(self.data.judgments, self.rows)

    def measure(self, systems: Sequence[System], config: Config | None = None) -> dict[str, Values]:
        """System → metric → value a query, NaN where it is not defined."""
        config = config or self.config
        texts = list(self.data.queries.texts)
        ranked = rank_all(systems, texts, self.data.items, self.qrels, 100, config)
        return {name: self._values(ranking.rows_QK, ranking.judged_scores_J) for name, ranking in ranked.items()}

    def _values(self, rows_QK: np.ndarray, scores_J: np.ndarray) -> Values:
        values = per_query(self.qrels, rows_QK, scores_J, self.config.evaluation)
        bad_Q = np.diff(self.qrels.indptr) - self.qrels.count(3)
        values["bpref"] = np.where(bad_Q > 0, values["bpref"], np.nan)  # without a bad item there is nothing to tell
        return {metric: values[metric] for metric in METRICS}


@dataclass(frozen=True)
class Trained:
    """What one recipe and seed made."""

    data: Path  # the split
    release: Path  # trained weights alone
    blend: Path  # SHARE of them


def train(catalogue: Path, out: Path, which: str, seed: int, size: Size) -> Trained:
    """Generate queries, split them, fine-tune."""
    config = settings(size, seed, *recipe(which))
    generate_queries(catalogue, out / "generated", config.queries)
    split(out / "generated", out / "split", config.split)
    release = train_apart("sft", out / "split" / "train", out / "sft", overrides(size, seed, *recipe(which)))
    whole = load_release(release)
    encoder, start = whole.query_encoder(), load_encoder(config.encoder).state_dict()
    kept = save_release(out / "blend", encoder, state_dict=blend(start, encoder.state_dict(), SHARE))
    return Trained(out / "split", whole.path, kept.path)


def after_sft(trained: Trained, start: Path, out: Path, size: Size, controls: bool) -> dict[str, Path]:
    """Retrieval-GRPO with a trained judge and its controls, all from the release `start`."""
    seed, config = 0, settings(size, 0)
    out.mkdir()
    data = smaller(trained.data / "train", out / "smaller", size)
    train_judge([trained.data / "train"], out / "judge", config.judge_train)
    with running_judge(out / "judge") as url:
        asking = overrides(size, seed, f"judge.url={url}")
        found = {GRPO: train_apart("grpo", data, out / "grpo", asking, start)}
    for objective, name in CONTROLS.items() if controls else ():
        found[name] = train_apart(objective, data, out / objective, overrides(size, seed), start)
    return found


def mean_over_seeds(runs: Sequence[Values]) -> Values:
    """Queries are the sample: a system's value of a query is its mean over seeds."""
    return {metric: np.mean([values[metric] for values in runs], axis=0) for metric in METRICS}


def difference(one: Values, other: Values) -> dict[str, Estimate]:
    """one − other, query by query, with its 95 % BCa interval."""
    table = np.stack([one[metric] - other[metric] for metric in METRICS], axis=1)
    found = intervals(table, resamples=5000, confidence=0.95, seed=0)
    return {metric: estimate for metric, estimate in zip(METRICS, found, strict=True) if estimate is not None}


def shown(estimate: Estimate) -> str:
    """Readable: difference with interval."""
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def zero_shot(which: str) -> str:
    """The name of the base model that reads items by the earlier or the present template."""
    return f"zero-shot, {which}"


def fine_tuned(which: str, blended: bool) -> str:
    """The name of an SFT release."""
    return f"SFT, {which}" + (f", {SHARE:.0%} of the trained weights" if blended else "")


def measure_all(catalogue: Path, work: Path, size: Size, seeds: int, controls: bool) -> tuple[dict, dict]:
    """System → values on the human queries, and on held-out generated queries (seed 0)."""
    config = settings(size, 0)
    human = Human(sample(catalogue, work / "human", size.others), config)
    model = config.encoder.model
    found = human.measure(
        [open_system(BM25_NAME, BM25, config.encoder), open_system(zero_shot(NEW), model, config.encoder)]
    )
    old = settings(size, 0, f"encoder.item_template='{OLD_TEMPLATE}'")
    found |= human.measure([open_system(zero_shot(OLD), model, old.encoder)], old)
    by_seed: dict[str, list[Values]] = {}
    generated: dict[str, Values] = {}
    for seed in range(seeds):
        made = {which: train(catalogue, work / f"{which}-{seed}", which, seed, size) for which in (OLD, NEW)}
        paths = {fine_tuned(OLD, False): made[OLD].release, fine_tuned(NEW, False): made[NEW].release}
        paths |= {fine_tuned(NEW, True): made[NEW].blend}
        systems = [open_system(name, path, config.encoder) for name, path in paths.items()]
        for name, values in human.measure(systems).items():
            by_seed.setdefault(name, []).append(values)
        if seed == 0:
            generated = Human(sample(made[NEW].data / "valid", work / "held-out", 0), config).measure(systems)
            found[START] = by_seed[fine_tuned(NEW, False)][0]
            more = after_sft(made[NEW], made[NEW].release, work / "after", size, controls)
            if controls:
                more[fine_tuned(READS, False)] = train(catalogue, work / "reads", READS, seed, size).release
            found |= human.measure([open_system(name, path, config.encoder) for name, path in more.items()])
    return {name: mean_over_seeds(runs) for name, runs in by_seed.items()} | found, generated


def systems_table(found: dict[str, Values], generated: dict[str, Values], seeds: int) -> Table:
    """Each system's means."""
    order = [BM25_NAME, zero_shot(OLD), zero_shot(NEW), fine_tuned(OLD, False), fine_tuned(NEW, False)]
    order += [fine_tuned(NEW, True), START, GRPO, *CONTROLS.values(), fine_tuned(READS, False)]
    rows = []
    for name in (name for name in order if name in found):
        cells = [f"{np.nanmean(found[name][metric]):.3f}" for metric in METRICS]
        own = f"{np.nanmean(generated[name]['pair_accuracy']):.3f}" if name in generated else ""
        rows.append([name, *cells, own])
    counts = [f"{metric} ({(~np.isnan(found[BM25_NAME][metric])).sum()})" for metric in METRICS]
    return Table(
        "Real electronics, human grades",
        ["system", *counts, "generated, held out: pair_accuracy"],
        rows,
        f"In brackets the number of human queries for which a metric is defined. SFT is the mean of {seeds} seeds; "
        "what follows it is seed 0. `before`: titles alone, longer queries, no further answers known.",
    )


def differences_table(found: dict[str, Values], controls: bool) -> Table:
    """Paired differences with their intervals."""
    new, old = fine_tuned(NEW, False), fine_tuned(OLD, False)
    pairs = [(zero_shot(NEW), zero_shot(OLD)), (old, zero_shot(OLD)), (new, zero_shot(OLD)), (new, zero_shot(NEW))]
    pairs += [(new, old), (fine_tuned(NEW, True), zero_shot(NEW)), (fine_tuned(NEW, True), new), (GRPO, START)]
    pairs += [(name, START) for name in (*CONTROLS.values(), fine_tuned(READS, False))] if controls else []
    rows = []
    for one, other in pairs:
        found_here = difference(found[one], found[other])
        rows.append(
            [f"{one} − {other}", *(shown(found_here[metric]) if metric in found_here else "" for metric in METRICS)]
        )
    text = "Query by query, 95 % BCa bootstrap over the human queries."
    return Table("Differences on human grades", ["difference", *METRICS], rows, text)


def aims(found: dict[str, Values]) -> list[Aim]:
    """What the issue asks for: gains whose interval is clear of 0."""
    gains = {
        "SFT is better than zero-shot on the same item text, on human grades of real items": (
            fine_tuned(NEW, False),
            zero_shot(NEW),
        ),
        "SFT's new defaults are better than the earlier ones": (fine_tuned(NEW, False), fine_tuned(OLD, False)),
        "Retrieval-GRPO is better than SFT on human grades of real items": (GRPO, START),
    }
    made = []
    for aim, (one, other) in gains.items():
        found_here = difference(found[one], found[other])
        clear = found_here[METRICS[0]].low > 0
        said = "; ".join(f"{metric} {shown(found_here[metric])}" for metric in METRICS if metric in found_here)
        made.append(Aim(f"{aim} ({METRICS[0]}, interval clear of 0)", said, clear, "" if clear else TRIED))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and save what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data/chorus"))
    parser.add_argument("--seeds", type=int, default=2, help="of SFT")
    parser.add_argument("--controls", action="store_true", help="hard negatives, live InfoNCE, and earlier queries")
    parser.add_argument("--quick", action="store_true", help="a try-out that saves nothing")
    given = parser.parse_args(arguments)
    if not (given.data / "judgments.parquet").is_file():
        sys.exit(f"{given.data}: no judgments.parquet there; give a dataset folder with human grades")
    size, seeds = (QUICK, 1) if given.quick else (Size(), given.seeds)
    record = Record(__file__, "Quality on real items with human grades")
    with tempfile.TemporaryDirectory() as folder:
        found, generated = measure_all(given.data, Path(folder), size, seeds, given.controls)
    record.tables += [systems_table(found, generated, seeds), differences_table(found, given.controls)]
    record.aims += aims(found)
    for table in record.tables:
        print(f"\n{table.title}", *(" | ".join(row) for row in [table.head, *table.rows]), sep="\n")
    if not given.quick:
        print(record.save())


if __name__ == "__main__":
    main()
