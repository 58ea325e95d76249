"""What each part of Retrieval-GRPO is worth: every setting changed alone, from the same SFT releases.

    python -m benchmarks.quality.ablations              # --trained: under cross-encoder judges too, ten minutes more

Takes the SFT releases of `benchmarks.quality.compare` (or trains them), three seeds each, shorter runs than there. The
reward judge is the shop's rules with 10 % of its grades wrong unless a row says otherwise; the rules grade the pages.
Also draws docs/seesaw.svg: relevance against quality and exclusivity. `--quick` tries it out and saves nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.compare import JUDGE, QUERIES, QUICK, TITLES, Size, hard_negatives, make_shop, out_of
from benchmarks.quality.measure import PerQuery, TrueGrades, paired, points
from benchmarks.quality.places import Where
from benchmarks.quality.runs import Done, Run, finished, train, workers
from benchmarks.quality.seesaw import draw
from benchmarks.record import ROOT, Aim, Record, Table, options
from taoemb.config import JudgeTrainConfig
from taoemb.judge.train import train_judge

SIZE = replace(Size(), steps=20)
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
BOTH, MINED = "towers: both", "SFT + hard negatives, as long as towers: both"
TOWER_STEPS = 0.3  # of the steps: a step that embeds items costs several times as much
JUDGES = {"oracle": "rules", "5 % wrong": "rules-5%", "20 % wrong": "rules-20%"}
TRIED = (
    "A step of both towers embeds every item of every group forwards and backwards: in this time it makes a few steps "
    "only. Tried: alternating towers, K 16 with 16 queries, a lower learning rate, a bank refreshed every ten steps."
)
TRAINED = {"trained on 1,200 graded pairs (weak)": 1200, "trained on 5,000 graded pairs (strong)": 5000}


def trained_judge(where: Where, pairs: int) -> Path:
    """A cross-encoder from that many graded pairs of the training queries."""
    out = where.folder.parent / f"judge-{pairs}"
    if not (out / "judge.json").is_file():
        config = JudgeTrainConfig(max_pairs=pairs, zero_shot=0, max_tokens=48, valid=0.05, frozen_layers=2)
        train_judge([where.folder / "train"], out, config)
    return out


def grpo(size: Size, change: str = "") -> str:
    """Settings of Retrieval-GRPO with one of them changed."""
    fixed = f"steps: {size.steps}, queries: {QUERIES}, k: 32, staleness: 0"
    return f"grpo={{{fixed}{', ' if change else ''}{change}}}"


def variants(size: Size) -> list[Run]:
    """The runs of one seed that need no trained judge; seed and start are filled in later."""
    runs = [_run(name, grpo(size), f"rewards={reward}") for name, reward in REWARDS.items()]
    runs += [_run(name, grpo(size, change)) for name, change in SETTINGS.items()]
    few = f"steps: {max(2, round(TOWER_STEPS * size.steps))}, k: 16, queries: 16"
    rest = "refresh: 10, optim: {lr: 3.0e-5}"
    runs += [_run(f"towers: {which}", grpo(size, f"{few}, towers: {which}, {rest}")) for which in TOWERS]
    return runs + [_run(f"judge: {name}", grpo(size), judge=judge) for name, judge in JUDGES.items()]


def trained_variants(size: Size, judges: dict[str, Path]) -> list[Run]:
    """The runs of one seed under judges that were trained."""
    return [_run(f"judge: {name}", grpo(size), judge=f"trained:{path}") for name, path in judges.items()]


def _run(name: str, *settings: str, judge: str = JUDGE) -> Run:
    return Run(name, "grpo", 0, (TITLES, *settings), judge=judge)


def start_of(seed: int, where: Where, size: Size) -> Done:
    """The SFT release of a seed, and what it is worth."""
    run = Run("sft", "sft", seed, (TITLES, size.sft))
    return finished(run, where, out_of(where)) or train(run, where, out_of(where))


def run_all(where: Where, size: Size, pool: Any, trained: bool) -> tuple[list[Done], dict[str, list[Done]]]:
    """The starts, and the runs of each variant, seed by seed."""
    starts = pool.starmap(start_of, [(seed, where, size) for seed in size.seeds], chunksize=1)

    def begin(runs: Sequence[Run]) -> list[Any]:
        seeded = [replace(run, seed=s.run.seed, start=s.release) for run in runs for s in starts]
        return [pool.apply_async(train, (run, where, out_of(where))) for run in seeded]

    judging = {name: pool.apply_async(trained_judge, (where, n)) for name, n in TRAINED.items() if trained}
    waiting = begin(variants(size))
    waiting += begin(trained_variants(size, {name: job.get() for name, job in judging.items()}))
    found: dict[str, list[Done]] = {}
    for one in waiting:
        found.setdefault((done := one.get()).run.name, []).append(done)
    as_long = [hard_negatives(MINED, s, size, both.seconds) for s, both in zip(starts, found[BOTH], strict=True)]
    found[MINED] = pool.starmap(train, [(run, where, out_of(where)) for run in as_long], chunksize=1)
    return starts, found


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
        "Towers": [default, *(f"towers: {which}" for which in TOWERS), MINED],
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
    both, mined = ([done.metrics for done in found[name]] for name in (BOTH, MINED))
    ahead, each = paired(both, mined, "goodrate@10")
    return [
        Aim("Quality up and overlap with BM25 down at a cost in relevance of at most a point", measured, met),
        Aim(
            "Stretch: both towers ahead of hard negatives at equal time (Goodrate@10, interval clear of 0)",
            f"{points(ahead)} points, seeds {', '.join(f'{100 * one:+.1f}' for one in each)}",
            ahead.low > 0,
            "" if ahead.low > 0 else TRIED,
        ),
    ]


def main() -> None:
    """Run, print, draw and keep."""
    parser = options(__doc__)
    parser.add_argument("--trained", action="store_true", help="reward by trained cross-encoders too")
    given = parser.parse_args()
    quick, size = given.quick, QUICK if given.quick else SIZE
    record = Record(__file__, "Ablations of Retrieval-GRPO, on the generated shop")
    where = make_shop(size)
    with workers(2) as pool:
        starts, found = run_all(where, size, pool, given.trained)
    truth = TrueGrades(where.folder / "test")
    start = [one.metrics for one in starts]
    record.tables, record.aims = tables(found, start, truth, size), aims(found)
    record.notes = ["![Relevance against quality and exclusivity](seesaw.svg)"]
    if not quick:
        draw(
            {"SFT": start} | {name: [one.metrics for one in found[name]] for name in REWARDS},
            ROOT / "docs" / "seesaw.svg",
        )
    record.finish(save=not quick)


if __name__ == "__main__":
    main()
