"""What keeps the contract and yet can hardly be meant: markup in titles, "NaN" as a brand, one pair with two grades.

None of it stops anything, since each can be right in some shop; `validate` and every import count it and say it.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taoemb.data.grades import settle
from taoemb.data.importers.values import TEXT_NULLS
from taoemb.data.markup import plain
from taoemb.data.schemas import SPEC, file_name

SHOWN = 20  # examples listed of one kind; the rest is counted
NULL_WORD = "is a word for missing"
ZERO_WEIGHT = "is 0: a known answer, never drawn as a positive"
_MARKED = ("title", "brand", "category", "description")
_NAMED = ("title", "brand", "category")


@dataclass(frozen=True)
class Doubt:
    """One kind of doubtful value: how often it stands in a file, and at most 20 examples in words."""

    file: str
    column: str
    problem: str
    count: int
    examples: list[str]

    def __str__(self) -> str:
        return f"{self.file}, column {self.column!r}: {self.problem}: {self.count:,}, e.g. {self.examples[0]}"


@dataclass
class Doubts:
    """Collects what is doubtful while a dataset is read batch by batch."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    query_ids: list[str] = field(default_factory=list)
    texts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # query text → rows
    generated: bool = False  # queries carry what they asked for: pairs of weight 0 are meant
    named: np.ndarray | None = None  # queries that a pair or judgment names, (queries,) bool

    def found(self) -> list[Doubt]:
        """Everything, in the order of the tables."""
        return [Doubt(file_name(kind[0]), *kind[1:], count, self.examples[kind]) for kind, count in self.counts.items()]

    def items(self, batch: pa.RecordBatch, start: int) -> None:
        """Look at a batch of items whose first row is `start`."""
        for name in _MARKED:
            self._texts("items", name, batch.column(name), start)
        attributes = batch.column("attributes")
        marked = [text for text in _suspects(attributes.items)[1] if plain(text) != text]
        for text in marked:
            self._add("items", "attributes", "holds HTML", repr(text[:60]))

    def _texts(self, table: str, name: str, column: pa.Array, start: int) -> None:
        for row, text in zip(*_suspects(column), strict=True):
            shown = plain(text)
            if shown != text:
                problem = "holds HTML" if shown else "holds HTML and no text"
                self._add(table, name, problem, f"row {start + row} {text[:60]!r}")
        if name in _NAMED:
            words = pc.is_in(column, value_set=pa.array(sorted(TEXT_NULLS)))
            for row in np.flatnonzero(words.to_numpy(zero_copy_only=False)).tolist():
                self._add(table, name, NULL_WORD, f"row {start + row} {column[row].as_py()!r}")

    def queries(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of queries."""
        self.generated |= SPEC.name in batch.schema.names
        start = len(self.query_ids)
        self.query_ids += batch.column("query_id").to_pylist()
        for row, text in enumerate(batch.column("text").to_pylist(), start):
            if text is not None:
                self.texts[" ".join(text.split())].append(row)

    def same_texts(self) -> None:
        """Queries of one text and several ids: each is trained and measured as a query of its own."""
        for text, rows in self.texts.items():
            if len(rows) > 1:
                ids = ", ".join(repr(self.query_ids[row]) for row in rows[:4])
                more = ", …" if len(rows) > 4 else ""
                self._add("queries", "text", "stands under several ids", f"{text[:60]!r}: {ids}{more}")

    def links(self, table: str, query_rows: np.ndarray, item_rows: np.ndarray, values: np.ndarray, ids: list) -> None:
        """Look at all pairs (weights) or judgments (grades); rows are −1 where an id is dangling."""
        if self.named is None:
            self.named = np.zeros(len(self.query_ids), dtype=bool)
        self.named[query_rows[query_rows >= 0]] = True
        sound = (query_rows >= 0) & (item_rows >= 0) & np.isfinite(values)
        query_ids, item_ids = ids
        if table == "pairs" and not self.generated:
            for row in np.flatnonzero(values == 0).tolist():
                self._add(
                    table, "weight", ZERO_WEIGHT, f"query {query_ids[row].as_py()!r}, item {item_ids[row].as_py()!r}"
                )
        if table == "judgments":
            where = np.flatnonzero(sound)
            settled = settle(query_rows[where], item_rows[where], values[where].astype(np.int8))
            problem = "one pair has several different grades (the low median counts)"
            for pair in np.flatnonzero(settled.conflicting).tolist():
                grades = values[where[settled.pair_of == pair]].astype(int).tolist() if self._room(problem) else []
                row = int(where[settled.first[pair]])
                said = f"query {query_ids[row].as_py()!r}, item {item_ids[row].as_py()!r}: {_listed(grades)}"
                self._add(table, "grade", problem, said)

    def unnamed_queries(self) -> None:
        """Queries that nothing is known about, where pairs or judgments are there at all."""
        if self.named is not None:
            for row in np.flatnonzero(~self.named).tolist():
                self._add("queries", "query_id", "has no pair and no judgment", repr(self.query_ids[row]))

    def _room(self, problem: str) -> bool:
        return self.counts["judgments", "grade", problem] < SHOWN

    def _add(self, table: str, column: str, problem: str, example: str) -> None:
        kind = (table, column, problem)
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN:
            self.examples[kind].append(example)


def _suspects(column: pa.Array) -> tuple[list[int], list[str]]:
    """Rows and texts that hold `<` or `&`."""
    if not len(column):
        return [], []
    rows = np.flatnonzero(pc.fill_null(pc.match_substring_regex(column, "[<&]"), False).to_numpy(zero_copy_only=False))
    return rows.tolist(), column.take(pa.array(rows)).to_pylist()


def _listed(grades: list[int]) -> str:
    return ", ".join(map(str, grades))
