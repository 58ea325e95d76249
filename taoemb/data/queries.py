"""Makes training queries for a catalogue that has no query log, and grades items for them by rules.

It reads items.parquet and nothing else: no human judgment can leak into training. What a query asks for is known (its
type and facets), so an item's grade follows from what was mined of it (rules.py). The catalogue's language decides
which writer is used (query_sources.py).
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from taoemb.config import QueryGenerationConfig
from taoemb.data.dataset import Catalogue, open_catalogue
from taoemb.data.files import check_target, link, new_folder, write_table
from taoemb.data.markup import plain_record
from taoemb.data.query_sources import Source, find_sources
from taoemb.data.query_writer import Asked
from taoemb.data.rules import Rules, some
from taoemb.data.schemas import JUDGMENTS, PAIRS, QUERIES, RULE_SOURCE, SPEC, file_name
from taoemb.errors import InputError
from taoemb.progress import Progress, progress

__all__ = ["MAX_ITEMS", "Rules", "generate_queries"]

MAX_ITEMS = 100_000  # a larger catalogue is sampled evenly; its queries, pairs and judgments name sampled items only
_MISSES = 1_000  # drafts in a row that give nothing new: the catalogue is exhausted


def generate_queries(data: Path, out: Path, config: QueryGenerationConfig) -> dict[str, Any]:
    """Write `out` as a dataset folder: the catalogue of `data` with generated queries, pairs and rule judgments.

    Fewer queries than asked come out when the catalogue holds no more. Returns counts, the language that was taken, and
    the word lists that were used. Raises InputError when the catalogue breaks the contract or gives no query at all.
    """
    data, out = Path(data), Path(out)
    check_target(out, data)
    catalogue = open_catalogue(data)
    rng = np.random.default_rng(config.seed)
    rows = np.arange(len(catalogue))
    if len(rows) > MAX_ITEMS:
        rows = np.sort(rng.choice(rows, MAX_ITEMS, replace=False))
    # A folder need not come from an importer, which takes HTML out.
    sources = find_sources([plain_record(record) for record in catalogue.records(rows)], config, rng)
    made = Made()
    with progress("generating queries", config.count) as bar:
        for source in sources.parts:
            _collect(source, config, made, bar)
    if not made.asked:
        raise InputError(
            f"{data}: no query can be made from these items; they need titles with product words "
            f"(language taken: {sources.language.code}; queries.language names another)"
        )
    with new_folder(out) as folder:
        link(data / file_name("items"), folder / file_name("items"))
        counts = _write(folder, catalogue, rows, made)
    return {
        "out": str(out),
        **counts,
        **Counter(query.kind for query in made.asked),
        "language": sources.language.code,
        "word_lists": sources.word_lists,
        "items_in_other_scripts": sources.other_scripts,
    }


@dataclass
class Made:
    """Queries, and for each the items to judge with their grades, those clicked, and further answers (rows)."""

    asked: list[Asked] = field(default_factory=list)
    judged: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    clicked: list[np.ndarray] = field(default_factory=list)
    known: list[np.ndarray] = field(default_factory=list)


def _collect(source: Source, config: QueryGenerationConfig, made: Made, bar: Progress) -> None:
    """Add a source's queries: as many as are wanted of it, or as its items give."""
    seen: set[tuple[str, ...]] = set()
    misses = 0
    while len(seen) < source.count and misses < _MISSES:
        misses += 1
        query = source.write()
        if query is None or (key := (query.text,) if query.kind == "type" else source.key(query.text)) in seen:
            continue  # product words come as one and as several: people type both
        grades = source.rules.grade(query)
        if not (grades == 4).any():
            continue
        misses = 0
        seen.add(key)
        made.asked.append(query)
        judged, found = source.rules.choose(query, grades, config.graded_per_query, source.rng)
        made.judged.append((source.rows[judged], found))
        answers = np.flatnonzero(grades == 4)
        clicked = some(answers, config.max_positives, source.rng)
        known = some(np.setdiff1d(answers, clicked), config.max_known, source.rng)
        made.clicked.append(source.rows[clicked])
        made.known.append(source.rows[known])
        bar.advance()


def _write(
    folder: Path,
    catalogue: Catalogue,
    rows: np.ndarray,
    made: Made,
) -> dict[str, int]:
    asked, judged, clicked, known = made.asked, made.judged, made.clicked, made.known
    query_ids = pa.array([f"g{i:06d}" for i in range(len(asked))], pa.string())
    specs = [json.dumps(_spec(query), ensure_ascii=False, separators=(",", ":")) for query in asked]
    texts, slices = [query.text for query in asked], [[query.kind] for query in asked]
    columns = [query_ids, pa.array(texts), pa.array(slices, pa.list_(pa.string())), pa.array(specs)]
    write_table(folder / file_name("queries"), pa.Table.from_arrays(columns, schema=QUERIES.append(SPEC)))

    def ids(parts: list[np.ndarray]) -> list[pa.Array]:
        owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        named = catalogue.ids_of(rows[np.concatenate(parts)])
        return [query_ids.take(pa.array(owners)), pa.array(named, pa.string())]

    pairs = ids([np.sort(np.concatenate(parts)) for parts in zip(clicked, known, strict=True)])
    drawn = [np.isin(np.sort(np.concatenate([some, rest])), some) for some, rest in zip(clicked, known, strict=True)]
    weights = pa.array(np.concatenate(drawn).astype(np.float32))
    write_table(folder / file_name("pairs"), pa.Table.from_arrays([*pairs, weights], schema=PAIRS))
    graded = ids([part for part, _ in judged])
    grades = pa.array(np.concatenate([part for _, part in judged]), pa.int8())
    columns = [*graded, grades, pa.repeat(RULE_SOURCE, len(grades))]
    write_table(folder / file_name("judgments"), pa.Table.from_arrays(columns, schema=JUDGMENTS))
    return {
        "queries": len(asked),
        "pairs": sum(map(len, clicked)),
        "known": sum(map(len, known)),
        "judgments": len(grades),
    }


def _spec(query: Asked) -> dict[str, Any]:
    kind = " ".join(query.type) if query.type else None
    return {"by": "catalogue", "kind": query.kind, "type": kind, "soft": query.soft, "hard": query.hard}
