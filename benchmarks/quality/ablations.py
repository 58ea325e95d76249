"""What each part of Retrieval-GRPO is worth: every setting changed alone, from the same SFT releases.

    python -m benchmarks.quality.ablations              # --trained: under cross-encoder judges too, ten minutes more

Takes the SFT releases of `benchmarks.quality.compare` (or trains them), three seeds each, shorter runs than there. The
reward judge is the shop's rules with 10 % of its grades wrong unless a row says otherwise; the rules grade the pages.
Also draws docs/seesaw.svg: relevance against quality and exclusivity. `--quick` tries it out and saves nothing.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.quality.compare import JUDGE, QUICK, Size, print_record
from benchmarks.quality.measure import PerQuery, TrueGrades, paired, points
from benchmarks.quality.runs import WORK, Done, Run, make_shop, train, workers
from benchmarks.quality.seesaw import draw
from benchmarks.record import ROOT, Aim, Record, Table

SIZE = replace(Size(), seeds=(0, 1, 2), steps=30)
REWARDS = {
    "default: gated, quality .1, exclusivity .1": "{}",
    "relevance alone": "{quality: 0, exclusivity: 0}",
    "without quality": "{quality: 0}",
    "without exclusivity": "{exclusivity: 0}",
    "gated, .3 each": "{quality: 0.3, exclusivity: 0.3}",
    "sum, .3 each": "{combine: sum, quality: 0.3, exclusivity: 0.3}",
}
"""`rewards` settings by name."""
SETTINGS = {
    "pool: batch": "pool: batch",
    "K 4": "k: 4",
    "K 16": "k: 16",
    "K 64": "k: 64",
    "staleness 1": "staleness: 1",
    "staleness 2": "staleness: 2",
    "without KL": "kl: 0",
    "without anchor": "anchor: 0",
}
"""What replaces one of `grpo`'s settings."""
TOWERS = ("both", "alternating")
TOWER_STEPS = 0.4  # of the steps: a step that embeds items costs several times as much
JUDGES = {"oracle": "rules", "5 % wrong": "rules-5%", "20 % wrong": "rules-20%"}
TRAINED = {"trained on 1,200 graded pairs (weak)": 1200, "trained on 5,000 graded pairs (strong)": 5000}


def train_trained_judge(data: Path, pairs: int) -> Path:
    """A cross-encoder from that many graded pairs of the training queries."""
    from taoemb.config import JudgeTrainConfig
    from taoemb.judge.train import train_judge

    out = WORK / f"judge-{data.parent.name}-{pairs}"
    if not (out / "judge.json").is_file():
        config = JudgeTrainConfig(max_pairs=pairs, zero_shot=0, max_tokens=48, valid=0.05, frozen_layers=2)
        train_judge([data / "train"], out, config)
    return out


def variants(size: Size) -> list[Run]:
    """The runs of one seed that need no trained judge; seed and start are filled in later."""
    base = f"grpo={{steps: {size.steps}, queries: 32, k: 32, staleness: 0}}"

    def grpo(change: str) -> str:
        return base.removesuffix("}") + f", {change}}}"

    runs = [Run(name, "grpo", 0, (base, f"rewards={reward}"), judge=JUDGE) for name, reward in REWARDS.items()]
    runs += [Run(name, "grpo", 0, (grpo(change),), judge=JUDGE) for name, change in SETTINGS.items()]
    few = f"steps: {max(2, round(TOWER_STEPS * size.steps))}, k: 16, queries: 16"
    runs += [
        Run(
            f"towers: {which}",
            "grpo",
            0,
            (grpo(f"{few}, towers: {which}, refresh: 10, optim: {{lr: 3.0e-5}}"),),
            judge=JUDGE,
        )
        for which in TOWERS
    ]
    return runs + [Run(f"judge: {name}", "grpo", 0, (base,), judge=judge) for name, judge in JUDGES.items()]


def trained_variants(size: Size, judges: dict[str, Path]) -> list[Run]:
    """The runs of one seed under judges that were trained."""
    base = f"grpo={{steps: {size.steps}, queries: 32, k: 32, staleness: 0}}"
    return [Run(f"judge: {name}", "grpo", 0, (base,), judge=f"trained:{path}") for name, path in judges.items()]


def start_of(seed: int, data: Path, size: Size) -> Done:
    """The SFT release of a seed, and what it is worth."""
    from benchmarks.quality.runs import shop_of
    from taoemb.encoder.release import load_release

    run = Run("sft", "sft", seed, (size.sft,))
    folder = WORK / "runs" / f"sft-{seed}" / "release"
    if not (folder / "release.json").is_file():
        return train(run, data, WORK / "runs")
    release = load_release(folder)
    return Done(run, folder, 0, 0.0, shop_of(data).measured(release))


def rows(
    names: Sequence[str], found: dict[str, list[Done]], start: Sequence[PerQuery], truth: TrueGrades
) -> list[list[str]]:
    """A line a variant: what it gains over SFT, and what it costs."""
    lines = []
    for name in names:
        runs = [done.metrics for done in found[name]]
        gain, each = paired(runs, start, "goodrate@10")
        tail, _ = paired(runs, start, "goodrate@10", truth.slices["long-tail"])
        cells = [paired(runs, start, metric)[0].value for metric in ("exact@10", "quality@10", "bm25_overlap@10")]
        seeds = f"{100 * min(each):+.1f} … {100 * max(each):+.1f}"
        seconds = np.mean([done.seconds for done in found[name]])
        lines.append(
            [name, points(gain), seeds, points(tail), *(f"{100 * cell:+.1f}" for cell in cells), f"{seconds:.0f}"]
        )
    return lines


HEAD = (
    "variant",
    "Goodrate@10, all",
    "seeds",
    "Goodrate@10, long-tail",
    "exact@10",
    "quality@10",
    "BM25 overlap@10",
    "seconds",
)


def tables(found: dict[str, list[Done]], start: Sequence[PerQuery], truth: TrueGrades, size: Size) -> list[Table]:
    """One table a group of settings."""
    default = next(iter(REWARDS))
    groups = {
        "Rewards": list(REWARDS),
        "Pool, group size, staleness, KL and anchor": [default, *SETTINGS],
        "Towers": [default, *(f"towers: {which}" for which in TOWERS)],
        "Judges": [*(f"judge: {name}" for name in ("oracle", "5 % wrong")), default]
        + [name for name in (f"judge: {one}" for one in ("20 % wrong", *TRAINED)) if name in found],
    }
    text = {
        "Towers": f"Of both and alternating towers {TOWER_STEPS:.0%} of the steps with 16 queries and K 16: "
        "about the same time on a CPU.",
        "Judges": "The default's judge has 10 % of its grades wrong. Trained judges are cross-encoders (MiniLM) from "
        "rule grades of training queries.",
    }
    said = f"Points gained over SFT after {size.steps} steps of 32 queries, K 32 where no row says otherwise; in "
    said += "brackets 95 % paired bootstrap over queries."
    return [
        Table(f"Ablation: {title}", HEAD, rows(names, found, start, truth), f"{said} {text.get(title, '')}".strip())
        for title, names in groups.items()
    ]


def aims(found: dict[str, list[Done]]) -> list[Aim]:
    """Quality and exclusivity at little cost in relevance."""
    ours = [done.metrics for done in found["gated, .3 each"]]
    plain = [done.metrics for done in found["relevance alone"]]
    cost, quality, overlap = (
        paired(ours, plain, metric)[0] for metric in ("goodrate@10", "quality@10", "bm25_overlap@10")
    )
    measured = f"gated, .3 each, minus relevance alone: quality {points(quality)}, overlap {points(overlap)}, "
    measured += f"Goodrate@10 {points(cost)} points"
    met = quality.low > 0 and overlap.high < 0 and cost.value >= -0.01
    return [Aim("Quality up and overlap with BM25 down at a cost in relevance of at most a point", measured, met)]


def main() -> None:
    """Run, print, draw and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small try that saves nothing")
    parser.add_argument("--trained", action="store_true", help="reward by trained cross-encoders too")
    given = parser.parse_args()
    quick, size = given.quick, QUICK if given.quick else SIZE
    record = Record(__file__, "Ablations of Retrieval-GRPO, on the generated shop")
    data = make_shop(size.items, size.queries, seed=1)
    with workers(2) as pool:
        starts = pool.starmap(start_of, [(seed, data, size) for seed in size.seeds], chunksize=1)
        pairs = TRAINED if given.trained else {}
        judging = {name: pool.apply_async(train_trained_judge, (data, n)) for name, n in pairs.items()}
        first = [replace(run, seed=s.run.seed, start=s.release) for run in variants(size) for s in starts]
        waiting = [pool.apply_async(train, (run, data, WORK / "runs")) for run in first]
        judges = {name: job.get() for name, job in judging.items()}
        second = [
            replace(run, seed=s.run.seed, start=s.release) for run in trained_variants(size, judges) for s in starts
        ]
        waiting += [pool.apply_async(train, (run, data, WORK / "runs")) for run in second]
        truth = TrueGrades(data / "test")
        done = [one.get() for one in waiting]
    found: dict[str, list[Done]] = {}
    for one in done:
        found.setdefault(one.run.name, []).append(one)
    start = [one.metrics for one in starts]
    record.tables, record.aims = tables(found, start, truth, size), aims(found)
    record.notes = ["![Relevance against quality and exclusivity](seesaw.svg)"]
    print_record(record)
    if not quick:
        draw(
            {"SFT": start} | {name: [one.metrics for one in found[name]] for name in REWARDS},
            ROOT / "docs" / "seesaw.svg",
        )
        record.save()


if __name__ == "__main__":
    main()
