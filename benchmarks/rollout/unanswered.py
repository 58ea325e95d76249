"""What unanswered pages do to verdicts: 10,000 rollouts of equal arms for each way to leave pages open.

    python benchmarks/rollout/unanswered.py

Goes through the real statistics and the real `decide`. Writes results/unanswered.json (after each part; parts that are
in it are not run again without `--anew`) and results/unanswered.md beside this file, and the table in docs/verdicts.md.
`--scale 0.01` is a quick try that writes nothing.
"""

import argparse
import datetime
import functools
import json
import multiprocessing
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hidden_grades import HIDES, hidden_rollout
from tables import percent, table, write_into
from verdicts import simulate

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "unanswered.json"
PAGE = HERE.parents[1] / "docs" / "verdicts.md"
MARK = "unanswered"
EQUAL, COMPARED, BETTER = 10_000, 400, 300
SHARES = (0.0, 0.0025, 0.005, 0.01)
LIFT = 0.02


def parts() -> dict[str, list[tuple[Any, int]]]:
    """Name of each part: its simulations, and how many of each."""
    found: dict[str, list[tuple[Any, int]]] = {}
    for name in HIDES:
        one = functools.partial(hidden_rollout, hide=name, lift=0.0, looks=24)
        found[name] = [
            (functools.partial(one, compare=True), COMPARED),
            (functools.partial(one, quick=True), EQUAL - COMPARED),
        ]
    for share in SHARES:
        one = functools.partial(hidden_rollout, hide=share, lift=LIFT, looks=60)
        found[f"{share:g}"] = [(one, BETTER)]
    return found


def main() -> None:
    """Run what is missing and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the simulations to run")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--anew", action="store_true", help="forget earlier results")
    arguments = parser.parse_args()
    whole = arguments.scale == 1.0
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if whole and RESULTS.exists() and not arguments.anew else {}
    with multiprocessing.get_context("fork").Pool(arguments.workers) as pool:
        for number, (name, runs) in enumerate(parts().items()):
            wanted = sum(max(2, round(count * arguments.scale)) for _, count in runs)
            if name in found and found[name]["simulations"] == wanted:
                continue
            started = time.monotonic()
            columns = [
                simulate(pool.imap, 100 + 10 * number + at, one, max(2, round(count * arguments.scale)))
                for at, (one, count) in enumerate(runs)
            ]
            found[name] = _summary(columns) | {
                "date": datetime.date.today().isoformat(),
                "seconds": round(time.monotonic() - started),
            }
            print(name, found[name], flush=True)
            if whole:
                RESULTS.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if whole:
        text = markdown(found)
        RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
        write_into(PAGE, text, MARK)
    print(markdown(found))


def _summary(columns: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    promoted = np.concatenate([one["promoted"] for one in columns])
    graded = np.concatenate([one["graded"] for one in columns])
    found = {
        "promoted": float(promoted.mean()),
        **{name: float(columns[0][name].mean()) for name in ("rolled_back", "held", "hidden")},
    }
    found |= {"simulations": len(promoted), "units": int(np.median(graded[promoted])) if promoted.any() else None}
    if "dropped" in columns[0]:
        found["dropped"] = float(columns[0]["dropped"].mean())
    return found


def markdown(found: Mapping[str, Any]) -> str:
    """Both tables, with how they came about."""
    equal = [
        [
            name,
            f"{found[name]['simulations']:,}",
            percent(found[name]["hidden"]),
            percent(found[name]["dropped"]),
            percent(found[name]["promoted"]),
            percent(found[name]["rolled_back"]),
            percent(found[name]["held"]),
        ]
        for name in HIDES
        if name in found
    ]
    better = [
        [
            f"{100 * share:g} %",
            percent(found[f"{share:g}"]["promoted"]),
            "–" if found[f"{share:g}"]["units"] is None else f"{found[f'{share:g}']['units']:,}",
        ]
        for share in SHARES
        if f"{share:g}" in found
    ]
    dates = sorted({one["date"] for one in found.values()})
    seconds = sum(one["seconds"] for one in found.values())
    heads = [
        "left open",
        "rollouts",
        "of all pages",
        "promoted if dropped",
        "promoted",
        "rolled back",
        "held",
    ]
    return (
        "\n\n".join(
            [
                f"{dates[-1]}, 2 shared cores, {seconds:,} s, `python benchmarks/rollout/unanswered.py`.",
                "**Equal arms, pages left open for what is on them.** At most 5 % may be promoted, whatever is open. "
                f"The other shares are those of {COMPARED} rollouts each.",
                table(heads, equal),
                "**The price.** A candidate of +2 points, 60 looks, pages of both arms left open whatever is on them.",
                table(["pages left open", "promoted", "median units"], better),
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
