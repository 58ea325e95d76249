"""Makes training queries for a catalogue that has no query log, and grades items for them by rules.

It reads items.parquet and nothing else: no human judgment can leak into training. What a query asks for is known (its
type and facets, see query_writer.py), so an item's grade follows from what was mined of it:

- 4 Excellent: the type (or another word for it) and every facet;
- 3 Related: the type, every hard facet (series, feature, what it is for), and exactly one soft facet (brand, value,
  measure, word) missed; or another model of the wanted series;
- 2 Mismatch: the type with more missed, or with a hard facet missed in the anchor's brand; another kind of the same
  thing; an accessory of the thing, that is an item that names it without being it;
- 1 Irrelevant: everything else.

An item whose type could not be read, or that does not say whether it has a feature, is not graded where that matters.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from taoemb.config import QueryGenerationConfig
from taoemb.data.dataset import Catalogue, open_catalogue
from taoemb.data.facets import Facet
from taoemb.data.files import check_target, link, new_folder, write_table
from taoemb.data.lexicon import class_of
from taoemb.data.markup import plain_record
from taoemb.data.mining import Mined, mine
from taoemb.data.query_writer import Asked, QueryWriter
from taoemb.data.schemas import JUDGMENTS, PAIRS, QUERIES, SPEC, file_name
from taoemb.data.words import near_duplicate_key, stem, tokens
from taoemb.errors import InputError
from taoemb.progress import progress

MAX_ITEMS = 100_000  # a larger catalogue is sampled evenly; its queries, pairs and judgments name sampled items only
_MISSES = 1_000  # drafts in a row that give nothing new: the catalogue is exhausted


def generate_queries(data: Path, out: Path, config: QueryGenerationConfig) -> dict[str, Any]:
    """Write `out` as a dataset folder: the catalogue of `data` with generated queries, pairs and rule judgments.

    Fewer queries than asked come out when the catalogue holds no more. Returns counts. Raises InputError when the
    catalogue breaks the contract or gives no query at all.
    """
    data, out = Path(data), Path(out)
    check_target(out, data)
    catalogue = open_catalogue(data)
    rng = np.random.default_rng(config.seed)
    rows = np.arange(len(catalogue))
    if len(rows) > MAX_ITEMS:
        rows = np.sort(rng.choice(rows, MAX_ITEMS, replace=False))
    # A folder need not come from an importer, which takes HTML out.
    mined = mine([plain_record(record) for record in catalogue.records(rows)])
    rules = Rules(mined)
    asked: list[Asked] = []
    judged: list[tuple[np.ndarray, np.ndarray]] = []
    clicked: list[np.ndarray] = []
    known: list[np.ndarray] = []
    seen: set[tuple[str, ...]] = set()
    writer = QueryWriter(mined, rng, config.kinds)
    with progress("generating queries", config.count) as bar:
        misses = 0
        while len(asked) < config.count and misses < _MISSES:
            misses += 1
            query = writer.write()
            if query is None or (key := _key(query)) in seen:
                continue
            grades = rules.grade(query)
            if not (grades == 4).any():
                continue
            misses = 0
            seen.add(key)
            asked.append(query)
            judged.append(rules.choose(query, grades, config.graded_per_query, rng))
            answers = np.flatnonzero(grades == 4)
            clicked.append(_some(answers, config.max_positives, rng))
            known.append(_some(np.setdiff1d(answers, clicked[-1]), config.max_known, rng))
            bar.advance()
    if not asked:
        raise InputError(f"{data}: no query can be made from these items; they need titles with product words")
    with new_folder(out) as folder:
        link(data / file_name("items"), folder / file_name("items"))
        counts = _write(folder, catalogue, rows, asked, judged, clicked, known)
    return {"out": str(out), **counts, **Counter(query.kind for query in asked)}


def _key(query: Asked) -> tuple[str, ...]:
    """Queries of one key are asked once. Product words come as one and as several: people type both."""
    return (query.text,) if query.kind == "type" else near_duplicate_key(query.text)


class Rules:
    """Grades every item for a query from what was mined of the catalogue."""

    def __init__(self, mined: Mined) -> None:
        self.mined = mined
        n = len(mined.items)
        self.typed = np.array([bool(item.types) for item in mined.items])
        self.weight = {
            facet[1]: float(np.log(n / len(rows))) for facet, rows in mined.rows.items() if facet[0] == "word"
        }

    def grade(self, query: Asked) -> np.ndarray:
        """Grade of every item by the rules above, int8; 0 where it is not known."""
        soft = [self._holds(facet) for facet in query.soft]
        hard = [self._holds(facet) for facet in query.hard]
        missed = sum((~holds for holds in soft), np.zeros(len(self.typed), dtype=np.int8))
        firm = np.logical_and.reduce([*hard, np.ones(len(self.typed), dtype=bool)])
        anchor = self.mined.items[query.anchor]
        brand = self.mined.where(("brand", anchor.brand)) if anchor.brand else np.ones(len(self.typed), dtype=bool)
        series = self.mined.where(*(facet for facet in anchor.facets if facet[0] == "series"))
        other_model = series & (missed == 0) if any(facet[0] == "model" for facet in query.hard) else ~firm & firm
        right, near = self._of_type(query) if query.type else self._kin(query, brand)
        grades = np.ones(len(self.typed), dtype=np.int8)
        grades[near & ~right] = 2
        grades[right & (firm | brand)] = 2
        grades[right & ((firm & (missed == 1)) | (other_model & ~firm))] = 3
        if query.type:
            grades[right & firm & (missed == 0)] = 4
            grades[~self.typed & ~right] = 0
        else:
            grades[~self.typed & brand] = 0
            grades[firm & (missed == 0)] = 4
        for facet in query.hard:
            if facet[0] in ("has", "lacks"):
                answered = self.mined.where(facet, ("lacks" if facet[0] == "has" else "has", facet[1]))
                grades[right & ~answered] = 0
        return grades

    def _kin(self, query: Asked, brand: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For a query without a type: items of the anchor's type and brand, and what goes with what the query names."""
        anchor = self.mined.items[query.anchor]
        kin = self.mined.where(*(("type", same) for same in class_of(anchor.types[0]))) if anchor.types else ~self.typed
        near = np.zeros(len(kin), dtype=bool)
        for kind, name in (*query.hard, *query.soft):
            if kind in ("model", "series") or (kind == "brand" and query.kind == "brand"):
                near |= self.mined.where(("for", name)) | self.mined.with_words(tokens(name), "named")
        return kin & brand, near

    def _of_type(self, query: Asked) -> tuple[np.ndarray, np.ndarray]:
        """Items that are the query's type, and items of another kind of it or that go with it."""
        phrase = query.type or ()
        right = self.mined.where(*(("type", same) for same in class_of(phrase)))
        head = self.mined.where(("type", phrase[-1:]))
        described = self.mined.with_words(phrase, "word")
        return right | (head & described), head | self.mined.with_words(phrase, "named")

    def _holds(self, facet: Facet) -> np.ndarray:
        kind, value = facet
        if kind == "value":
            return self.mined.where(facet) | self.mined.with_words(value.split(), "named")
        return self.mined.where(facet)

    def choose(
        self, query: Asked, grades: np.ndarray, count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows to judge and their grades: some of every grade, and items that share words with the query but are worse.

        A quarter of the judgments each goes to grade 4, grade 3, look-alikes of grades 1 and 2, and the rest to random
        items of grades 2 and 1; what one part lacks goes to the others.
        """
        part = max(1, count // 4)
        likeness = np.zeros(len(grades), dtype=np.float32)
        for word in dict.fromkeys(stem(word) for word in tokens(query.text)):
            if ("word", word) in self.mined.rows:
                likeness[self.mined.rows["word", word]] += self.weight[word]
        likeness += rng.random(len(grades), dtype=np.float32) * 0.5
        likeness[(grades == 0) | (grades >= 3)] = -1
        alike = np.argpartition(-likeness, min(part * 3, len(grades) - 1))[: part * 3]
        alike = _some(alike[likeness[alike] > 1], part, rng)
        chosen = [_some(np.flatnonzero(grades == 4), part, rng), _some(np.flatnonzero(grades == 3), part, rng), alike]
        left = count - sum(map(len, chosen))
        mismatched = _some(np.setdiff1d(np.flatnonzero(grades == 2), alike), max(1, left // 2), rng)
        chosen.append(mismatched[: max(0, left)])
        left = count - sum(map(len, chosen))
        far = rng.integers(len(grades), size=4 * count)
        far = np.setdiff1d(np.unique(far[grades[far] == 1]), np.concatenate(chosen))
        rows = np.unique(np.concatenate([*chosen, _some(far, max(0, left), rng)])).astype(np.int64)
        return rows, grades[rows]


def _some(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most `count` of the rows, at random."""
    return rows if len(rows) <= count else rng.choice(rows, count, replace=False)


def _write(
    folder: Path,
    catalogue: Catalogue,
    rows: np.ndarray,
    asked: list[Asked],
    judged: list[tuple[np.ndarray, np.ndarray]],
    clicked: list[np.ndarray],
    known: list[np.ndarray],
) -> dict[str, int]:
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
    columns = [*graded, grades, pa.repeat("rule", len(grades))]
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
