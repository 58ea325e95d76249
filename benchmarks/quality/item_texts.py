"""What an encoder should read of an item: templates compared before any training, on both catalogues.

    python -m benchmarks.quality.item_texts

Takes the shops of `benchmarks.quality.compare` and `benchmarks.quality.human`, which must have run before. The default
(`taoemb.encoder.text.ITEM_TEMPLATE`) was chosen with the real catalogue's table in sight, the generated shop's was not.
"""

import sys
from collections.abc import Mapping, Sequence

from benchmarks.quality import compare, human
from benchmarks.quality.against import against_first
from benchmarks.quality.measure import METRICS as BY_RULES
from benchmarks.quality.measure import PerQuery
from benchmarks.quality.people import METRICS as BY_PEOPLE
from benchmarks.quality.places import Where
from benchmarks.quality.runs import elsewhere, workers
from benchmarks.record import Record
from taoemb.encoder.text import ITEM_TEMPLATE

TITLES = "{title}"
TEMPLATES = (
    "{title}[, {brand}]",
    "{title}[, {category}]",
    "{title}[. {description:160}]",
    "{title}[, {attributes}]",
    ITEM_TEMPLATE,
    ITEM_TEMPLATE.replace("160", "400"),
)


def main() -> None:
    """Measure, print, and keep."""
    record = Record(__file__, "What the encoder reads of an item")
    people, shop = Where(human.PLACE / "now", "people"), compare.make_shop(compare.Size())
    if not (people.folder / "test").is_dir():
        print(f"{people.folder}: missing; run benchmarks.quality.human first", file=sys.stderr)
        sys.exit(2)
    with workers(2) as pool:
        for title, where, metrics, templates in (
            ("Real electronics, people's grades", people, BY_PEOPLE, TEMPLATES),
            ("Generated shop, its rules' grades", shop, BY_RULES, (ITEM_TEMPLATE,)),
        ):
            jobs = {text: pool.apply_async(elsewhere, (None, where, text)) for text in (TITLES, *templates)}
            found = {text: [job.get()] for text, job in jobs.items()}
            record.tables.append(against_first(f"{title}, before any training", _named(found), tuple(metrics)))
    record.notes = ["Differences to titles alone, 95 % paired BCa bootstrap over queries; all-MiniLM-L6-v2."]
    record.finish(save=True)


def _named(found: Mapping[str, Sequence[PerQuery]]) -> dict[str, Sequence[PerQuery]]:
    default = f"`{ITEM_TEMPLATE}` (default)"
    return {default if text == ITEM_TEMPLATE else f"`{text}`": runs for text, runs in found.items()}


if __name__ == "__main__":
    main()
