"""Another catalogue as the held-out domain: train on one, test on the other.

    python -m benchmarks.quality.transfer

Takes the releases of `benchmarks.quality.compare` (generated shop) and `benchmarks.quality.human` (real electronics),
which must have run before, and measures each on the other's items, queries and grades.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.quality import compare, human
from benchmarks.quality.against import against_first, differences
from benchmarks.quality.measure import METRICS as BY_RULES
from benchmarks.quality.people import METRICS as BY_PEOPLE
from benchmarks.quality.places import Where
from benchmarks.quality.runs import elsewhere, workers
from benchmarks.record import Record

TAKEN = ("sft", "live-infonce", "grpo")
ZERO_SHOT = "zero-shot"


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
            grpo, *others = (compare.LABELS[name] for name in ("grpo", "sft", "live-infonce"))
            record.tables.append(against_first(title, systems, tuple(metrics)))
            pairs = [(grpo, other) for other in others]
            record.tables.append(differences(f"{title}: differences", systems, pairs, tuple(metrics)))
    record.notes = [
        "Means over seeds; differences to zero-shot on the same item text, 95 % paired BCa bootstrap over queries."
    ]
    record.finish(save=True)


def item_template(folders: Mapping[str, Sequence[Path]]) -> str:
    """What these releases read of an item."""
    from taoemb.encoder.release import load_release

    return load_release(folders["sft"][0]).manifest.item_template


if __name__ == "__main__":
    main()
