"""Another catalogue as the held-out domain: train on one, test on the other.

    python -m benchmarks.quality.transfer

Takes the releases of `benchmarks.quality.compare` (generated shop) and `benchmarks.quality.human` (real electronics),
which must have run before, and measures each on the other's items, queries and grades.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.quality import compare, human
from benchmarks.quality.against import against_first, difference, differences, shown
from benchmarks.quality.measure import METRICS as BY_RULES
from benchmarks.quality.measure import PerQuery
from benchmarks.quality.people import METRICS as BY_PEOPLE
from benchmarks.quality.places import Where
from benchmarks.quality.runs import elsewhere, workers
from benchmarks.record import Aim, Record
from taoemb.encoder.release import load_release

TAKEN = ("sft", "live-infonce", "grpo")
ZERO_SHOT = "zero-shot"
TRIED = "It keeps what SFT learned; 49 queries can't tell a difference below about .02."


def main() -> None:
    """Measure, print, and keep."""
    shop, people = compare.make_shop(compare.Size()), Where(human.PLACE / "now", "people")
    directions = {
        "Trained on the generated shop, tested on real electronics by people": (
            compare.out_of(shop),
            people,
            BY_PEOPLE,
        ),
        "Trained on real electronics, tested on the generated shop by its rules": (
            human.PLACE / "runs",
            shop,
            BY_RULES,
        ),
    }
    record = Record(__file__, "Another catalogue as the held-out domain")
    with workers(2) as pool:
        for title, (runs, where, metrics) in directions.items():
            folders = {name: sorted(runs.glob(f"{name}-[0-9]*/release")) for name in TAKEN}
            if not all(folders.values()) or not where.folder.is_dir():
                print(f"{runs}: releases are missing; run benchmarks.quality.compare and .human first", file=sys.stderr)
                sys.exit(2)
            jobs = {
                name: [pool.apply_async(elsewhere, (path, where)) for path in paths] for name, paths in folders.items()
            }
            systems = {ZERO_SHOT: [pool.apply(elsewhere, (None, where, item_template(folders)))]}
            systems |= {compare.LABELS[name]: [job.get() for job in some] for name, some in jobs.items()}
            pairs = [(compare.LABELS["grpo"], compare.LABELS[other]) for other in ("sft", "live-infonce")]
            record.tables.append(against_first(title, systems, tuple(metrics)))
            record.tables.append(differences(f"{title}: differences", systems, pairs, tuple(metrics)))
            if where.by == "people":
                record.aims = aims(systems)
    record.notes = [
        "Means over seeds; differences to zero-shot on the same item text, 95 % paired BCa bootstrap over queries."
    ]
    record.finish(save=True)


def aims(systems: Mapping[str, Sequence[PerQuery]]) -> list[Aim]:
    """What people's grades of real items say of training under a good judge elsewhere."""
    grpo, metric = systems[compare.LABELS["grpo"]], next(iter(BY_PEOPLE))
    made = []
    for other in (ZERO_SHOT, compare.LABELS["live-infonce"], compare.LABELS["sft"]):
        found = difference(grpo, systems[other], metric)
        aim = f"Stretch: Retrieval-GRPO of the generated shop (a good judge) is better on people's grades than {other}"
        clear = found is not None and found.low > 0
        made.append(Aim(f"{aim} ({metric}, interval clear of 0)", shown(found), clear, "" if clear else TRIED))
    return made


def item_template(folders: Mapping[str, Sequence[Path]]) -> str:
    """What these releases read of an item."""
    return load_release(folders["sft"][0]).manifest.item_template


if __name__ == "__main__":
    main()
