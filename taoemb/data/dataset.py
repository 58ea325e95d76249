"""Opens a dataset folder: the catalogue as Arrow columns, queries, pairs and judgments as row numbers.

A catalogue of ten million items stays in Arrow memory (or, with a cache folder, on disk and memory-mapped); Python
objects are made only for the rows that a caller asks for.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taoemb.data.checks import FirstViolation, Reporter, check_unique, resolve, stream
from taoemb.data.grades import settle
from taoemb.data.schemas import SCHEMAS, SIGNAL_PREFIX, SPEC, file_name
from taoemb.errors import InputError

_CACHE_FORMAT = 1


class Template(Protocol):
    """Turns an item into text (taoemb.encoder.text.ItemTemplate)."""

    @property
    def fields(self) -> Sequence[str]:
        """The columns that it reads."""

    def render(self, record: Mapping[str, Any]) -> str:
        """The text of one item."""


class Catalogue:
    """Immutable view over a catalogue's Arrow columns; an item is a row number."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])

    @property
    def ids(self) -> pa.ChunkedArray:
        """Item ids; row r is item r."""
        return self._table.column("item_id")

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the quality signal columns."""
        return tuple(name for name in self._table.column_names if name.startswith(SIGNAL_PREFIX))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, extra ones included."""
        return tuple(self._table.column_names)

    def __len__(self) -> int:
        return self._table.num_rows

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Row of each id, int64; -1 when unknown. One pass over the catalogue's ids, whatever the number asked."""
        asked = pa.array(item_ids, pa.string()).dictionary_encode()
        rows = np.full(len(asked.dictionary) + 1, -1, dtype=np.int64)  # the last place answers null ids
        for start, batch in zip(self._starts, self._batches, strict=False):
            place = pc.index_in(batch.column("item_id"), value_set=asked.dictionary)
            here = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
            rows[place.drop_null().to_numpy(zero_copy_only=False)] = start + here
        return rows[pc.fill_null(asked.indices, -1).to_numpy(zero_copy_only=False)]

    def ids_of(self, rows: np.ndarray) -> list[str]:
        """Item id of each row."""
        return self._take(rows, ("item_id",)).column("item_id").to_pylist()

    def records(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """Whole items of just these rows; `attributes` is a dict (empty when the item has none)."""
        return self._records(rows, self._table.column_names)

    def texts(self, rows: np.ndarray, template: Template) -> list[str]:
        """The template's text of just these rows; only the columns that it names are read."""
        unknown = [name for name in template.fields if name not in self._table.column_names]
        if unknown:
            raise InputError(f"item template names {unknown[0]!r}, which is no column of the catalogue")
        return [template.render(record) for record in self._records(rows, template.fields)]

    def table(self) -> pa.Table:
        """All columns as they are."""
        return self._table

    def column(self, name: str) -> pa.ChunkedArray:
        """One column; a column of the contract that the file lacks is all null. Raises InputError on any other name."""
        if name not in self._table.column_names:
            raise InputError(f"{file_name('items')} has no column {name!r}")
        return self._table.column(name)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Consecutive row numbers (int64), `size` at a time."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)), dtype=np.int64)

    def _records(self, rows: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
        taken = self._take(rows, columns)
        if taken.num_columns == 0:
            return [{} for _ in range(len(rows))]
        values = {name: taken.column(name).to_pylist() for name in columns}
        if "attributes" in values:
            values["attributes"] = [dict(entries or ()) for entries in values["attributes"]]
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def _take(self, rows: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Rows in the order asked, batch by batch: a take never copies a whole column."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"row numbers must lie in 0..{len(self) - 1}, got {rows.min()}..{rows.max()}")
        schema = pa.schema([self._table.schema.field(name) for name in columns])
        order = np.argsort(rows, kind="stable")
        cuts = np.searchsorted(rows[order], self._starts)
        parts = [
            self._batches[b].select(list(columns)).take(pa.array(rows[order[low:high]] - self._starts[b]))
            for b, (low, high) in enumerate(pairwise(cuts))
            if high > low
        ]
        back = np.empty(len(rows), dtype=np.int64)
        back[order] = np.arange(len(rows))
        return pa.Table.from_batches(parts, schema).combine_chunks().take(pa.array(back))


@dataclass(frozen=True)
class Queries:
    """Search texts; a query is a row number. `specs` holds what a generated query asked for (JSON), else None."""

    ids: list[str]
    texts: list[str]
    slices: list[tuple[str, ...]]
    specs: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Pairs:
    """Positives from logs."""

    query_rows: np.ndarray  # int32
    item_rows: np.ndarray  # int64
    weights: np.ndarray  # float32

    def __len__(self) -> int:
        return len(self.query_rows)


@dataclass(frozen=True)
class Judgments:
    """Graded (query, item) pairs, 4 Excellent … 1 Irrelevant; `conflicting` pairs had several different grades."""

    query_rows: np.ndarray  # int32
    item_rows: np.ndarray  # int64
    grades: np.ndarray  # int8
    sources: list[str]
    conflicting: int = 0

    def __len__(self) -> int:
        return len(self.query_rows)

    def settled(self) -> "Judgments":
        """One judgment a pair, by the rule of taoemb.data.grades; a pair that several sources graded names them all."""
        found = settle(self.query_rows, self.item_rows, self.grades)
        if len(found.first) == len(self):
            return self
        named: list[dict[str, None]] = [{} for _ in found.first]
        for pair, source in zip(found.pair_of.tolist(), self.sources, strict=True):
            named[pair][source] = None
        sources = [" + ".join(sorted(filter(None, names))) for names in named]
        rows, conflicting = found.first, self.conflicting + int(found.conflicting.sum())
        return Judgments(self.query_rows[rows], self.item_rows[rows], found.grades, sources, conflicting)

    def of_source(self, source: str) -> "Judgments":
        """Just those of one source."""
        rows = np.flatnonzero([name == source for name in self.sources])
        return Judgments(self.query_rows[rows], self.item_rows[rows], self.grades[rows], [source] * len(rows))


@dataclass(frozen=True)
class Dataset:
    """An opened dataset folder; a table that is neither needed nor there is None (queries: empty)."""

    root: Path
    items: Catalogue
    queries: Queries
    pairs: Pairs | None
    judgments: Judgments | None


def open_dataset(
    root: Path, need: Sequence[str] = ("items",), cache_dir: Path | None = None, *, every_judgment: bool = False
) -> Dataset:
    """Open a dataset folder, checking every value that is read.

    `need` ⊆ {"items", "queries", "pairs", "judgments"}. Tables that are there are read even when not needed; pairs and
    judgments imply queries. A pair that was judged several times has one grade (taoemb.data.grades), unless
    `every_judgment` is asked for. With `cache_dir`, items.parquet is streamed once into an uncompressed Arrow file
    there and memory-mapped. Raises InputError at the first violation, naming file, row and column.
    """
    root = Path(root)
    unknown = set(need) - set(SCHEMAS)
    if unknown:
        raise InputError(f"unknown table {sorted(unknown)[0]!r}; a dataset has {', '.join(SCHEMAS)}")
    wanted = {name for name in SCHEMAS if name in need or (root / file_name(name)).is_file()}
    linked = wanted & {"pairs", "judgments"}
    if linked and "queries" not in wanted:
        if not linked & set(need):
            wanted -= linked
        else:
            wanted.add("queries")
    items = open_catalogue(root, cache_dir)
    report = FirstViolation(root)
    queries = _read_queries(root, report) if "queries" in wanted else Queries([], [], [], [])
    pairs = _read_pairs(root, items, queries, report) if "pairs" in wanted else None
    judgments = _read_judgments(root, items, queries, report) if "judgments" in wanted else None
    if judgments is not None and not every_judgment:
        judgments = judgments.settled()
    return Dataset(root, items, queries, pairs, judgments)


def open_catalogue(root: Path, cache_dir: Path | None = None) -> Catalogue:
    """Open items.parquet alone. Raises InputError at the first violation."""
    root = Path(root)
    if cache_dir is None:
        table = pa.Table.from_batches(list(stream(root, "items", FirstViolation(root))))
        check_unique(table.column("item_id"), "items", "item_id", FirstViolation(root))
        return Catalogue(table)
    cached = _cached_items(root, Path(cache_dir))
    with pa.memory_map(str(cached)) as source:
        return Catalogue(pa.ipc.open_file(source).read_all())


def _cached_items(root: Path, cache_dir: Path) -> Path:
    path = root / file_name("items")
    if not path.is_file():
        FirstViolation(root)("items", None, "the file is missing")
    stat = path.stat()
    name = f"{_CACHE_FORMAT}:{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    cached = cache_dir / f"items-{hashlib.sha256(name.encode()).hexdigest()[:16]}.arrow"
    if cached.is_file():
        return cached
    cache_dir.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}.tmp")
    try:
        _write_arrow(root, partial)
        partial.replace(cached)
    finally:
        partial.unlink(missing_ok=True)
    return cached


def _write_arrow(root: Path, path: Path) -> None:
    batches = stream(root, "items", FirstViolation(root))
    first = next(batches)
    with pa.ipc.new_file(path, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)
    with pa.memory_map(str(path)) as source:
        ids = pa.ipc.open_file(source).read_all().column("item_id")
        check_unique(ids, "items", "item_id", FirstViolation(root))
    pa.default_memory_pool().release_unused()  # what decoding took would stay with this process as long as it lives


def _read_queries(root: Path, report: Reporter) -> Queries:
    table = pa.Table.from_batches(list(stream(root, "queries", report)))
    check_unique(table.column("query_id"), "queries", "query_id", report)
    specs = table.column(SPEC.name).to_pylist() if SPEC.name in table.column_names else [None] * len(table)
    slices = [tuple(names or ()) for names in table.column("slices").to_pylist()]
    return Queries(table.column("query_id").to_pylist(), table.column("text").to_pylist(), slices, specs)


def _read_pairs(root: Path, items: Catalogue, queries: Queries, report: Reporter) -> Pairs:
    query_rows, item_rows, table = _linked(root, "pairs", items, queries, report)
    weights = pc.fill_null(table.column("weight"), 1.0).to_numpy().astype(np.float32)
    return Pairs(query_rows, item_rows, weights)


def _read_judgments(root: Path, items: Catalogue, queries: Queries, report: Reporter) -> Judgments:
    query_rows, item_rows, table = _linked(root, "judgments", items, queries, report)
    grades = table.column("grade").to_numpy().astype(np.int8)
    return Judgments(query_rows, item_rows, grades, pc.fill_null(table.column("source"), "").to_pylist())


def _linked(
    root: Path, name: str, items: Catalogue, queries: Queries, report: Reporter
) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    """Rows of the queries and items that a table names by id."""
    table = pa.Table.from_batches(list(stream(root, name, report)))
    query_rows = resolve(table.column("query_id"), pa.array(queries.ids, pa.string()), name, "query_id", report)
    item_rows = resolve(table.column("item_id"), items.ids, name, "item_id", report)
    return query_rows.astype(np.int32), item_rows, table
