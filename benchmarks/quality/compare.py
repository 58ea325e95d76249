"""Retrieval-GRPO against what a team would do otherwise, on the generated shop (the paper's tables 2 and 3).

    python -m benchmarks.quality.compare

Per seed: SFT, then from its release, Retrieval-GRPO; InfoNCE on the same live Top-K for as many steps; SFT continued
and SFT + mined hard negatives for Retrieval-GRPO's wall clock, embedding and mining counted. Test queries are of
templates that training never showed; pages are graded by the shop's rules. The judge that gives reward is those rules
with 10 % of its grades wrong, as reliable as a good LLM judge, and never the grader itself. `--quick` tries it out and
saves nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.measure import KINDS, METRICS, PerQuery, TrueGrades, embed_items, paired, points
from benchmarks.quality.places import WORK, Where
from benchmarks.quality.runs import Done, Run, train, workers
from benchmarks.record import Aim, Record, Table, options
from taoemb.config import EncoderConfig, SplitConfig
from taoemb.data.split import split
from taoemb.data.synth import synthesise
from taoemb.encoder.loading import load_encoder

JUDGE = "rules-10%"
TITLES = "encoder.item_template='{title}'"
QUERIES = 32  # a step
LABELS = {
    "sft": "SFT",
    "sft-more": "SFT continued",
    "hard-negatives": "SFT + hard negatives",
    "live-infonce": "InfoNCE on live Top-K",
    "grpo": "Retrieval-GRPO",
}


@dataclass(frozen=True)
class Size:
    """How large the comparison is."""

    items: int = 4000
    queries: int = 3000
    seeds: tuple[int, ...] = (0, 1, 2)
    sft: str = f"sft={{steps: 64, queries: {QUERIES}, random_negatives: {QUERIES}}}"
    steps: int = 80

    def grpo(self, k: int = 32) -> tuple[str, ...]:
        """Settings of Retrieval-GRPO; all else is the default."""
        return TITLES, f"grpo={{steps: {self.steps}, queries: {QUERIES}, k: {k}, staleness: 0}}"


QUICK = Size(items=800, queries=400, seeds=(0, 1), sft="sft={steps: 4, queries: 16, random_negatives: 8}", steps=6)


def make_shop(size: Size) -> Where:
    """The generated shop, split so that test holds only queries of templates that training never shows."""
    folder = WORK / f"shop-{size.items}-{size.queries}"
    if not (folder / "split" / "test" / "queries.parquet").is_file():
        synthesise(folder / "shop", size.items, size.queries, seed=1)
        split(folder / "shop", folder / "split", SplitConfig(by="template", test=0.3, valid=0.05))
    return Where(folder / "split", "rules")


def one_seed(seed: int, where: Where, size: Size) -> tuple[Done, Done]:
    """SFT, and Retrieval-GRPO from it."""
    out = out_of(where)
    sft = train(Run("sft", "sft", seed, (TITLES, size.sft)), where, out)
    return sft, train(Run("grpo", "grpo", seed, size.grpo(), sft.release, JUDGE), where, out)


def controls(sft: Done, grpo: Done, size: Size) -> list[Run]:
    """What else could have been done from the same release in Retrieval-GRPO's time, or in as many steps."""
    seed, start, seconds = sft.run.seed, sft.release, grpo.seconds
    live = f"live_infonce={{steps: {size.steps}, queries: {QUERIES}, k: 32}}"
    return [
        Run("sft-more", "sft", seed, (TITLES, size.sft), start, seconds=seconds),
        hard_negatives("hard-negatives", sft, size, seconds),
        Run("live-infonce", "live_infonce", seed, (TITLES, live), start),
    ]


def hard_negatives(name: str, sft: Done, size: Size, seconds: float) -> Run:
    """SFT with mined hard negatives, from an SFT release, mining included in its time."""
    settings = size.sft.replace("sft=", "hard_negatives=").replace("}", ", negatives: 2}")
    return Run(name, "hard_negatives", sft.run.seed, (TITLES, settings), sft.release, seconds=seconds)


def out_of(where: Where) -> Path:
    """Where the runs of a shop are kept; other benchmarks start from them."""
    return where.folder.parent / "runs"


def run_all(where: Where, size: Size, pool: Any) -> list[Done]:
    """All runs of all seeds; a control starts when the run whose time it gets is done."""
    begun = [pool.apply_async(one_seed, (seed, where, size)) for seed in size.seeds]
    done: list[Done] = []
    later = []
    for one in begun:
        done += (first := one.get())
        later += [pool.apply_async(train, (run, where, out_of(where))) for run in controls(*first, size)]
    return done + [one.get() for one in later]


def baselines(truth: TrueGrades) -> dict[str, PerQuery]:
    """BM25 and the encoder before any training."""
    encoder = load_encoder(EncoderConfig(precision="auto", item_template="{title}"))
    zero_shot = truth.of_encoder(encoder, embed_items(encoder, truth.data))
    return {"BM25": truth.of_ranking(truth.route_QN), "zero-shot": zero_shot}


Systems = Mapping[str, Sequence[PerQuery]]


def goodrate_table(systems: Systems, truth: TrueGrades) -> Table:
    """Goodrate@10 by slice."""
    slices = {name: mask for name, mask in truth.slices.items() if mask.any()}
    rows = []
    for name, runs in systems.items():
        value = np.stack([run["goodrate@10"] for run in runs]).mean(0)
        rows.append([name, *(f"{100 * value[mask].mean():.1f}" for mask in slices.values())])
    head = ["system", *(f"{name} ({mask.sum()})" for name, mask in slices.items())]
    return Table(
        "Goodrate@10 by kind of query, per cent", head, rows, "Mean over seeds; queries of each slice in brackets."
    )


def other_table(systems: Systems, seconds: Mapping[str, str]) -> Table:
    """All metrics over all queries, and the time of training."""
    rows = [
        [name, *(f"{100 * np.mean([run[metric].mean() for run in runs]):.1f}" for metric in METRICS), seconds[name]]
        for name, runs in systems.items()
    ]
    text = "; ".join(f"{name}: {meaning}" for name, meaning in METRICS.items())
    return Table(
        "All metrics, per cent", ["system", *METRICS, "seconds (steps)"], rows, f"{text[0].upper()}{text[1:]}."
    )


def difference_table(systems: Systems, truth: TrueGrades) -> Table:
    """Retrieval-GRPO minus each control."""
    ours, rows = systems[LABELS["grpo"]], []
    for name in (label for key, label in LABELS.items() if key != "grpo"):
        for metric in ("goodrate@10", "exact@10"):
            for part in ("all", *KINDS):
                estimate, each = paired(ours, systems[name], metric, truth.slices[part])
                rows.append([name, metric, part, points(estimate), f"{100 * min(each):+.1f} … {100 * max(each):+.1f}"])
    text = "Points, 95 % paired BCa bootstrap over queries; the last column is the least and the greatest seed."
    return Table("Retrieval-GRPO minus …", ["control", "metric", "slice", "difference", "seeds"], rows, text)


def aims(systems: Systems, truth: TrueGrades) -> list[Aim]:
    """The aims of the comparison."""
    ours, tail = systems[LABELS["grpo"]], truth.slices["long-tail"]

    def against(name: str, metric: str, mask: np.ndarray | None) -> tuple[str, float, float]:
        estimate, each = paired(ours, systems[LABELS[name]], metric, mask)
        return (
            f"{points(estimate)} points, seeds {', '.join(f'{100 * e:+.1f}' for e in each)}",
            estimate.value,
            estimate.low,
        )

    sft, sft_value, _ = against("sft", "goodrate@10", tail)
    hard, hard_value, _ = against("hard-negatives", "goodrate@10", tail)
    live, _, live_low = against("live-infonce", "goodrate@10", tail)
    exact, exact_value, _ = against("live-infonce", "exact@10", None)
    return [
        Aim("Long-tail Goodrate@10 at least +4.62 points over SFT (the paper's figure)", sft, sft_value >= 0.0462),
        Aim("Long-tail Goodrate@10 at least +1.5 points over hard negatives at equal time", hard, hard_value >= 0.015),
        Aim("Long-tail Goodrate@10 above InfoNCE on the live Top-K, interval clear of 0", live, live_low > 0),
        Aim("Exact matches at most 1 point below that control", exact, exact_value >= -0.01),
    ]


def main() -> None:
    """Run, print and keep."""
    quick = options(__doc__).parse_args().quick
    size = QUICK if quick else Size()
    record = Record(__file__, "Retrieval-GRPO against its alternatives, on the generated shop")
    where = make_shop(size)
    with workers(2) as pool:
        runs = run_all(where, size, pool)
    truth = TrueGrades(where.folder / "test")
    systems: dict[str, list[PerQuery]] = {name: [found] for name, found in baselines(truth).items()}
    seconds = dict.fromkeys(systems, "–")
    for key, label in LABELS.items():
        own = [done for done in runs if done.run.name == key]
        systems[label] = [done.metrics for done in own]
        seconds[label] = f"{np.mean([d.seconds for d in own]):.0f} ({np.mean([d.steps for d in own]):.0f})"
    record.tables = [goodrate_table(systems, truth), other_table(systems, seconds), difference_table(systems, truth)]
    record.aims = aims(systems, truth)
    record.notes = [
        f"{size.items:,} items read by their titles, {size.queries:,} queries, {len(size.seeds)} seeds, a process a "
        f"core with one thread. Reward: {JUDGE}. A real LLM's time to answer is not in the seconds."
    ]
    record.finish(save=not quick)


if __name__ == "__main__":
    main()
