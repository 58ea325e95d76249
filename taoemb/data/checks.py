"""Streams one Parquet file of the contract, checking every value on the way.

The same checks serve `open_dataset` (stops at the first violation) and `validate` (collects all of them): they differ
only in the reporter they pass. Everything is vectorised over record batches; a row number counts from 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taoemb.data.schemas import REQUIRED, SCHEMAS, compatible, conform, file_name, wanted_type
from taoemb.errors import InputError
from taoemb.limits import (
    CONTROL_IN_ID,
    CONTROLS,
    ID_BYTES,
    NUL_IN_QUERY,
    QUERY_CHARACTERS,
    TOO_LONG_ID,
    TOO_LONG_QUERY,
)

BATCH_ROWS = 65_536
_OWN_ID = {"items": ("item_id",), "queries": ("query_id",)}  # the other tables name these


@dataclass(frozen=True)
class Violation:
    """One breach of the contract; `row` counts from 0, None when the whole file or column is meant."""

    file: str
    row: int | None
    column: str | None
    problem: str

    def __str__(self) -> str:
        where = [self.file]
        where += [f"row {self.row}"] if self.row is not None else []
        where += [f"column {self.column!r}"] if self.column is not None else []
        return f"{', '.join(where)}: {self.problem}"


class Reporter(Protocol):
    """Receives violations: `rows` holds every row that breaks the same rule, `values` what stands there."""

    def __call__(
        self,
        table: str,
        column: str | None,
        problem: str,
        rows: np.ndarray | None = None,
        values: pa.Array | None = None,
    ) -> None: ...


class FirstViolation:
    """Reporter that stops at the first violation with an InputError."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(
        self,
        table: str,
        column: str | None,
        problem: str,
        rows: np.ndarray | None = None,
        values: pa.Array | None = None,
    ) -> None:
        """Raise InputError for the first of `rows`."""
        first = next(describe(table, column, problem, rows, values, limit=1))
        raise InputError(f"{self.root}: {first}; `taoemb data validate {self.root}` lists every violation")


def describe(
    table: str, column: str | None, problem: str, rows: np.ndarray | None, values: pa.Array | None, limit: int
) -> Iterator[Violation]:
    """Violations of at most `limit` of the rows, each with the value that stands there."""
    if rows is None:
        yield Violation(file_name(table), None, column, problem)
        return
    for i, row in enumerate(rows[:limit].tolist()):
        said = problem if values is None else f"{problem}: {_shown(values[i].as_py())}"
        yield Violation(file_name(table), row, column, said)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def stream(root: Path, table: str, report: Reporter) -> Iterator[pa.RecordBatch]:
    """Yield a table's checked record batches in the contract's types (absent optional columns are null).

    A table without rows gives one empty batch. A column of the wrong type is reported and read as null. Reports a
    missing or unreadable file and yields nothing.
    """
    path = root / file_name(table)
    if not path.is_file():
        return report(table, None, "the file is missing")
    try:
        with pq.ParquetFile(path, memory_map=True) as parquet:
            yield from _batches(parquet, table, report)
    except (pa.ArrowException, OSError) as error:
        report(table, None, f"cannot be read as Parquet ({str(error).splitlines()[0]})")


def _batches(parquet: pq.ParquetFile, table: str, report: Reporter) -> Iterator[pa.RecordBatch]:
    have = parquet.schema_arrow
    unusable = set(_check_columns(have, table, report))
    absent = [name for name in SCHEMAS[table].names if name not in have.names]
    start = 0
    empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in have], schema=have)
    for raw in parquet.iter_batches(BATCH_ROWS) if parquet.metadata.num_rows else [empty]:
        columns: dict[str, pa.Array] = {}
        for name in (*have.names, *absent):
            want = wanted_type(table, name)
            if name in unusable or name in absent:
                columns[name] = pa.nulls(len(raw), want)
            elif want is None:
                columns[name] = raw.column(name)
            else:
                columns[name] = _checked(raw.column(name), want, table, name, start, report)
        for name in SCHEMAS[table].names:
            if name not in unusable and name not in absent:
                _check_values(columns[name], table, name, start, report)
        yield pa.RecordBatch.from_pydict(columns)
        start += len(raw)
    if table == "items" and start == 0:
        report(table, None, "holds no items")


def _check_columns(have: pa.Schema, table: str, report: Reporter) -> Iterator[str]:
    """Yield the columns that cannot be used."""
    for name in REQUIRED[table]:
        if name not in have.names:
            report(table, name, "the column is missing")
            yield name
    for name in sorted({name for name in have.names if have.names.count(name) > 1}):
        report(table, name, "the column stands more than once")
        raise pa.ArrowInvalid(f"two columns are named {name!r}")
    for field in have:
        want = wanted_type(table, field.name)
        if want is not None and not compatible(field.type, want):
            report(table, field.name, f"has type {field.type}, expected {want}")
            yield field.name


def _checked(column: pa.Array, want: pa.DataType, table: str, name: str, start: int, report: Reporter) -> pa.Array:
    """Cast to the contract's type after checking what a cast or a later read would trip over."""
    if pa.types.is_integer(want):
        wide = conform(column, pa.int64())
        other = pc.and_(pc.invert(pc.is_in(wide, pa.array([1, 2, 3, 4]))), pc.is_valid(wide))
        _flag(other, wide, table, name, GRADE_RULE, start, report)
        return wide.cast(want, safe=False)
    column = conform(column, want)
    if pa.types.is_floating(want):
        _flag(pc.invert(pc.is_finite(column)), column, table, name, "is not a finite number", start, report)
    else:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            rows = np.array([start + i for i in range(len(column)) if not _sound(column.slice(i, 1))])
            report(table, name, "is not valid UTF-8 text", rows)
            return pa.nulls(len(column), want)
    return column


GRADE_RULE = "is not one of the grades 1, 2, 3, 4"


def _sound(one: pa.Array) -> bool:
    try:
        one.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _check_values(column: pa.Array, table: str, name: str, start: int, report: Reporter) -> None:
    if name in REQUIRED[table]:
        _flag(pc.is_null(column), None, table, name, "is null", start, report)
        if pa.types.is_string(column.type):
            blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
            _flag(blank, None, table, name, "is empty", start, report)
    if name == "weight":
        _flag(pc.less(column, 0), column, table, name, "is negative", start, report)
    if name in _OWN_ID.get(table, ()):
        _flag(pc.greater(pc.binary_length(column), ID_BYTES), column, table, name, TOO_LONG_ID, start, report)
        controls = pc.match_substring_regex(column, f"[{CONTROLS}]")
        _flag(controls, column, table, name, CONTROL_IN_ID, start, report)
    if (table, name) == ("queries", "text"):
        _flag(pc.greater(pc.utf8_length(column), QUERY_CHARACTERS), None, table, name, TOO_LONG_QUERY, start, report)
        _flag(pc.match_substring(column, "\0"), column, table, name, NUL_IN_QUERY, start, report)


def _flag(
    broken: pa.Array, values: pa.Array | None, table: str, name: str, problem: str, start: int, report: Reporter
) -> None:
    """Report the rows where `broken` is true (null counts as not broken)."""
    if not pc.any(broken).as_py():
        return
    rows = np.flatnonzero(pc.fill_null(broken, False).to_numpy(zero_copy_only=False))
    report(table, name, problem, start + rows, None if values is None else values.take(pa.array(rows)))


def check_unique(ids: pa.ChunkedArray, table: str, name: str, report: Reporter) -> None:
    """Report the second and later rows of every id that stands more than once."""
    if _surely_unique(ids) or pc.count_distinct(ids, mode="only_valid").as_py() == len(ids) - ids.null_count:
        return
    counts = pc.value_counts(ids)
    again = pc.fill_null(pc.greater(counts.field("counts"), 1), False)
    repeated = counts.field("values").filter(again).drop_null()
    rows = np.flatnonzero(pc.is_in(ids, value_set=repeated).to_numpy())
    codes = pc.index_in(ids.take(pa.array(rows)), value_set=repeated).to_numpy()
    _, first = np.unique(codes, return_index=True)
    later = np.delete(rows, first)
    report(table, name, "stands in an earlier row already", later, _take_strings(ids, later))


def _surely_unique(ids: pa.ChunkedArray) -> bool:
    """Whether all hashes differ: eight bytes an id, where Arrow's table of distinct strings takes about a hundred."""
    hashes_N = np.empty(len(ids) - ids.null_count, dtype=np.int64)
    at = 0
    for start in range(0, len(ids), BATCH_ROWS):
        part = ids.slice(start, BATCH_ROWS).drop_null().to_pylist()
        hashes_N[at : at + len(part)] = [hash(one) for one in part]
        at += len(part)
    hashes_N.sort()
    return not (hashes_N[1:] == hashes_N[:-1]).any()


def _take_strings(column: pa.ChunkedArray, rows: np.ndarray) -> pa.Array:
    taken = column.take(pa.array(rows))
    return pa.concat_arrays(taken.chunks) if taken.num_chunks else pa.array([], column.type)


def resolve(ids: pa.ChunkedArray, known: pa.Array, table: str, name: str, report: Reporter) -> np.ndarray:
    """Row of each id among the `known` ones (int64; -1 where null, or dangling, which is reported)."""
    found = pc.index_in(ids, value_set=known)
    dangling = np.flatnonzero(pc.and_(pc.is_null(found), pc.is_valid(ids)).to_numpy())
    if len(dangling):
        target = "queries" if name == "query_id" else "items"
        report(table, name, f"names no row of {file_name(target)}", dangling, _take_strings(ids, dangling))
    return pc.fill_null(found, -1).to_numpy().astype(np.int64)
