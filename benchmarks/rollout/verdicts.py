"""How often verdicts err, and how long they take: simulated rollouts through the real statistics and the real `decide`.

    python benchmarks/rollout/verdicts.py

Writes results/verdicts.json and results/verdicts.md beside this file, and the table in docs/verdicts.md. `--scale 0.01`
is a quick try that writes nothing.
"""

import argparse
import datetime
import functools
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from classical import planned_units
from rollouts import covered, decided, false_crossings, split, with_history, with_people
from shop_traffic import quality
from tables import markdown, write_into

HERE = Path(__file__).parent
SEED = 20240607
LOOKS = {0.0: 24, 0.01: 120, 0.02: 60, 0.05: 24}
"""How long a rollout of each true lift lasts at most."""

Columns = dict[str, np.ndarray]


def main() -> None:
    """Run all parts and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the simulations to run")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        found = run(functools.partial(simulate, pool.imap), arguments.scale)
    found |= {
        "date": datetime.date.today().isoformat(),
        "machine": f"{arguments.workers} cores",
        "command": "python benchmarks/rollout/verdicts.py",
        "seconds": round(time.monotonic() - started),
    }
    table = markdown(found)
    print(table)
    if arguments.scale == 1.0:
        (HERE / "results" / "verdicts.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (HERE / "results" / "verdicts.md").write_text(table, encoding="utf-8")
        write_into(HERE.parents[1] / "docs" / "verdicts.md", table)


Simulate = Callable[[int, Callable[[list[int]], dict[str, float]], int], Columns]


def run(simulate: Simulate, scale: float) -> dict[str, Any]:
    """All parts, as a JSON object."""

    def many(part: int, one: Callable[[list[int]], dict[str, float]], count: int) -> Columns:
        return simulate(part, one, max(2, round(count * scale)))

    deviation = float(np.std(quality(np.random.default_rng(SEED), np.zeros(100_000), 0.0)))
    lifts = []
    for part, (lift, looks) in enumerate(LOOKS.items()):
        planned = planned_units(lift, deviation, 0.05, 0.8) if lift else 10_000
        columns = many(
            part, functools.partial(decided, lift=lift, looks=looks, planned=planned), 1000 if lift else 10_000
        )
        lifts.append(_of_lift(lift, planned, columns))
    crossings = {
        metric: _shares(many(10 + number, functools.partial(false_crossings, metric=metric), 2000))
        for number, metric in enumerate(("click_rate", "conversion_rate", "latency_ms"))
    }
    return {
        "lifts": lifts,
        "crossings": crossings,
        "coverage": _shares(many(20, covered, 2000)),
        "history": _of_history(many(21, functools.partial(with_history, lift=0.02), 500)),
        "people": _shares(many(22, functools.partial(with_people, favour=0.2), 500)),
        "split": {
            "works": _shares(many(23, functools.partial(split, lost=0.0), 2000)),
            "loses": _of_split(many(24, functools.partial(split, lost=0.15), 200)),
        },
    }


def simulate(each: Callable[..., Any], part: int, one: Callable[[list[int]], dict[str, float]], count: int) -> Columns:
    """`count` simulations with seeds of their own; `each` maps them (imap of a pool, or map)."""
    chunks = [(one, part, range(start, min(start + 50, count))) for start in range(0, count, 50)]
    rows = [row for chunk in each(_chunk, chunks) for row in chunk]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _chunk(task: tuple[Callable[[list[int]], dict[str, float]], int, range]) -> list[dict[str, float]]:
    one, part, numbers = task
    return [one([SEED, part, number]) for number in numbers]


def _of_lift(lift: float, planned: int, columns: Columns) -> dict[str, Any]:
    promoted, peeked, crossed = columns["promoted"], columns["peeked"], columns["crossed"]
    return {
        "lift": lift,
        "simulations": len(promoted),
        "promoted": float(promoted.mean()),
        "rolled_back": float(columns["rolled_back"].mean()),
        "graded_until_promotion": _median(columns["graded"][promoted]),
        "crossed": float(crossed.mean()),
        "graded_until_crossed": _median(columns["crossed_at"][crossed]),
        "fixed": float(columns["fixed"].mean()),
        "fixed_units": planned,
        "peeked": float(peeked.mean()),
        "peeked_units": _median(columns["peeked_at"][peeked]),
    }


def _of_history(columns: Columns) -> dict[str, Any]:
    return {name: _median(columns[f"{name}_at"][columns[f"{name}_at"] > 0]) for name in ("without", "with")} | {
        "width_ratio": float(np.mean(columns["with_width"] / columns["without_width"]))
    }


def _of_split(columns: Columns) -> dict[str, Any]:
    return {"alarm": float(columns["alarm"].mean()), "at": _median(columns["at"][columns["alarm"]])}


def _shares(columns: Columns) -> dict[str, Any]:
    return {name: float(values.mean()) for name, values in columns.items()} | {
        "simulations": len(next(iter(columns.values())))
    }


def _median(values: np.ndarray) -> int | None:
    return int(np.median(values)) if len(values) else None


if __name__ == "__main__":
    main()
