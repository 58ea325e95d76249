"""Real items with people's grades: what each step of the pipeline brings a shop that has no query log.

    python -m benchmarks.quality.human                 # ../shared/data/chorus, or the folder that is given
    python -m benchmarks.quality.human --quick         # a try-out that saves nothing

Training sees items only: its queries are generated from the catalogue, and its judge is a cross-encoder that learned
from rule grades of those queries. People's queries and grades measure and choose nothing. Seeds, steps and the wall
clock of controls are as in `benchmarks.quality.compare`, only smaller: real texts are four times as long.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.against import difference, differences, shown
from benchmarks.quality.measure import PerQuery, mean_over_seeds
from benchmarks.quality.people import ASKED, DEPTH, METRICS, HumanGrades, small_shop
from benchmarks.quality.places import WORK, Where
from benchmarks.quality.runs import Done, Run, train, workers
from benchmarks.record import Aim, Record, Table, options
from taoemb.config import Config, JudgeTrainConfig, QueryGenerationConfig, load_config
from taoemb.evaluation.ranking import rank_all
from taoemb.evaluation.systems import BM25, open_system
from taoemb.judge.train import train_judge

PLACE = WORK / "people"
EARLIER_KINDS = {
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
"""`queries.kinds` as they were when generated queries were longer."""
TITLES = "encoder.item_template='{title}'"
LABELS = {
    "sft-earlier": "SFT, earlier defaults",
    "sft": "SFT",
    "sft-more": "SFT continued",
    "hard-negatives": "SFT + hard negatives",
    "live-infonce": "SFT + InfoNCE on live Top-K",
    "grpo": "SFT + Retrieval-GRPO",
}
BASE, BASE_TITLES = "zero-shot", "zero-shot, titles alone"
TRIED = (
    "People's grades are few (2,040; a query in three has one kind of grade only): a gain below about .02 can hardly "
    "be told from none. Tried by hand besides: releases blended with their start (sft.soup) and more steps. The judge "
    "learns from rule grades and orders people's pairs no better than the encoder does; not tried: a judge that "
    "learned from people, an LLM, ensembles."
)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    others: int = 800  # items beside those that people graded
    generated: int = 2500  # queries
    queries: int = 24  # a step
    sft_steps: int = 40
    steps: int = 24
    k: int = 8
    judge_pairs: int = 2000
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def sft(self) -> str:
        """Settings of SFT."""
        return f"sft={{steps: {self.sft_steps}, queries: {self.queries}, random_negatives: {self.queries}}}"

    @property
    def live(self) -> str:
        """Settings that Retrieval-GRPO and its control share."""
        return f"steps: {self.steps}, queries: {self.queries}, k: {self.k}"


QUICK = Size(100, 200, 8, 3, 3, 4, 150, (0,))


def make_places(data: Path, size: Size) -> tuple[Where, Where]:
    """The small shop with queries as they are generated now, and as they were."""
    shutil.rmtree(PLACE, ignore_errors=True)
    earlier = QueryGenerationConfig(count=size.generated, kinds=EARLIER_KINDS, max_known=0)
    asked = {"now": QueryGenerationConfig(count=size.generated), "earlier": earlier}
    now, before = (Where(small_shop(data, PLACE / name, size.others, one), "people") for name, one in asked.items())
    return now, before


def judge_of(where: Where, size: Size) -> Path:
    """The reward judge, trained from rule grades of the generated queries."""
    out = PLACE / "judge"
    if not (out / "judge.json").is_file():
        train_judge([where.folder / "train"], out, JudgeTrainConfig(max_pairs=size.judge_pairs, valid=0.05))
    return out


def runs_after(sft: Done, judge: Path, size: Size) -> Run:
    """Retrieval-GRPO from an SFT release."""
    settings = (f"grpo={{{size.live}, staleness: 0}}",)
    return Run("grpo", "grpo", sft.run.seed, settings, sft.release, f"trained:{judge}")


def controls(sft: Done, grpo: Done, size: Size) -> list[Run]:
    """What else could have been done from the same release."""
    seed, start, seconds = sft.run.seed, sft.release, grpo.seconds
    hard = size.sft.replace("sft=", "hard_negatives=").replace("}", ", negatives: 2}")
    return [
        Run("sft-more", "sft", seed, (size.sft,), start, seconds=seconds),
        Run("hard-negatives", "hard_negatives", seed, (hard,), start, seconds=seconds),
        Run("live-infonce", "live_infonce", seed, (f"live_infonce={{{size.live}}}",), start),
    ]


def run_all(now: Where, earlier: Where, size: Size, pool: Any) -> list[Done]:
    """All runs of all seeds."""
    out = PLACE / "runs"
    judging = pool.apply_async(judge_of, (now, size))
    begun = [pool.apply_async(train, (Run("sft", "sft", seed, (size.sft,)), now, out)) for seed in size.seeds]
    before = [Run("sft-earlier", "sft", seed, (TITLES, size.sft)) for seed in size.seeds]
    later = [pool.apply_async(train, (run, earlier, out)) for run in before]
    judge, done = judging.get(), [one.get() for one in begun]
    rewarded = [pool.apply_async(train, (runs_after(sft, judge, size), now, out)) for sft in done]
    for sft, one in zip(tuple(done), rewarded, strict=True):
        done.append(grpo := one.get())
        later += [pool.apply_async(train, (run, now, out)) for run in controls(sft, grpo, size)]
    return done + [one.get() for one in later]


def baselines(where: Where) -> dict[str, PerQuery]:
    """BM25, and the encoder before any training by both item texts."""
    people = HumanGrades(where.folder / "test")

    def ranked(name: str, source: str, config: Config) -> PerQuery:
        systems = [open_system(name, source, config.encoder)]
        texts = people.data.queries.texts
        return people.of_ranking(rank_all(systems, texts, people.data.items, people.qrels, DEPTH, config)[name])

    config = load_config(None, ["encoder.precision=auto"])
    config = config.model_copy(update={"evaluation": ASKED})
    titles = load_config(None, ["encoder.precision=auto", TITLES]).model_copy(update={"evaluation": ASKED})
    model = config.encoder.model
    return {
        "BM25": ranked("BM25", BM25, config),
        BASE_TITLES: ranked("t", model, titles),
        BASE: ranked("z", model, config),
    }


Systems = Mapping[str, Sequence[PerQuery]]


def systems_table(systems: Systems, seconds: Mapping[str, str]) -> Table:
    """Each system's means."""
    rows = [
        [name, *(f"{np.nanmean(mean_over_seeds(runs, metric)):.3f}" for metric in METRICS), seconds.get(name, "–")]
        for name, runs in systems.items()
    ]
    defined = [f"{metric} ({(~np.isnan(systems['BM25'][0][metric])).sum()})" for metric in METRICS]
    text = (
        "Means over seeds; in brackets the number of queries for which a metric is defined. Earlier defaults: titles "
        "alone, longer queries, eight known answers a query."
    )
    return Table("Real electronics, people's grades", ["system", *defined, "seconds (steps)"], rows, text)


def differences_table(systems: Systems) -> Table:
    """Paired differences with their intervals."""
    sft, grpo = LABELS["sft"], LABELS["grpo"]
    pairs = [(BASE, BASE_TITLES), (LABELS["sft-earlier"], BASE_TITLES), (sft, BASE_TITLES), (sft, BASE)]
    pairs += [(sft, LABELS["sft-earlier"])]
    pairs += [(grpo, LABELS[key]) for key in ("sft", "sft-more", "hard-negatives", "live-infonce")]
    return differences("Differences on people's grades", systems, pairs, METRICS)


def aims(systems: Systems) -> list[Aim]:
    """Gains whose interval is clear of 0."""
    wanted = {
        "SFT is better than zero-shot on the same item text": (LABELS["sft"], BASE),
        "SFT's defaults are better than the earlier ones": (LABELS["sft"], LABELS["sft-earlier"]),
        "Stretch: Retrieval-GRPO is better than SFT": (LABELS["grpo"], LABELS["sft"]),
        "Stretch: Retrieval-GRPO is better than hard negatives at equal time": (
            LABELS["grpo"],
            LABELS["hard-negatives"],
        ),
    }
    made = []
    for aim, (one, other) in wanted.items():
        found = {metric: difference(systems[one], systems[other], metric) for metric in METRICS}
        first = found[METRICS[0]]
        clear = first is not None and first.low > 0
        said = "; ".join(f"{metric} {shown(estimate)}" for metric, estimate in found.items())
        name = f"People's grades of real items: {aim} ({METRICS[0]}, interval clear of 0)"
        made.append(Aim(name, said, clear, "" if clear else TRIED))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and save what was found."""
    parser = options(__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data/chorus"))
    given = parser.parse_args(arguments)
    if not (given.data / "judgments.parquet").is_file():
        print(f"{given.data}: no judgments.parquet there; give a dataset folder with human grades", file=sys.stderr)
        sys.exit(2)
    size = QUICK if given.quick else Size()
    record = Record(__file__, "Real items with people's grades")
    where, earlier = make_places(given.data, size)
    with workers(2) as pool:
        runs = run_all(where, earlier, size, pool)
    systems: dict[str, list[PerQuery]] = {name: [found] for name, found in baselines(where).items()}
    seconds = {}
    for key, label in LABELS.items():
        own = [done for done in runs if done.run.name == key]
        systems[label] = [done.metrics for done in own]
        seconds[label] = f"{np.mean([d.seconds for d in own]):.0f} ({np.mean([d.steps for d in own]):.0f})"
    record.tables, record.aims = [systems_table(systems, seconds), differences_table(systems)], aims(systems)
    items = len(HumanGrades(where.folder / "test").data.items)
    record.notes = [
        f"{items:,} real items (all that people graded, and {size.others:,} others), {len(size.seeds)} seeds. Item "
        "texts and kinds of generated queries were chosen with a look at these queries' lengths and grades, so the "
        "gain of SFT over zero-shot is a little flattered."
    ]
    record.finish(save=not given.quick)


if __name__ == "__main__":
    main()
