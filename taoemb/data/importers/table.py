"""Turns the rows of one source file into one table of the contract; an unreadable value is an error with its place."""

from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from taoemb.data.checks import Violation
from taoemb.data.files import write_table
from taoemb.data.importers.attributes import Attributes
from taoemb.data.importers.columns import ATTRIBUTE, Columns, lookup, refuse_twice
from taoemb.data.importers.source import Row, SourceFile, shown
from taoemb.data.importers.values import (
    FLOAT32_MAX,
    NUMBER_NULLS,
    TEXT_NULLS,
    Numbers,
    Reading,
    Tally,
    UnreadableError,
    as_grade,
    as_id,
    as_text,
)
from taoemb.data.schemas import REQUIRED, SCHEMAS, SIGNAL, SIGNAL_PREFIX, file_name
from taoemb.errors import InputError

_BATCH = 10_000
_IDS = ("item_id", "query_id")
Cells = list[tuple[int, Row]]


class Table:
    """One table on its way from a file to the dataset folder."""

    def __init__(self, columns: Columns, source: SourceFile, reading: Reading, rest: bool) -> None:
        self.name, self.source, self.reading, self.rest = columns.table, source, reading, rest
        self.column_of = columns.settle(source.path, source.columns, source.nested)
        self.places = array("q")  # of each row in the file
        self.tally = Tally()
        self.reached: set[str] = set(source.columns)  # columns, and paths where something was found
        self.zero_weights = 0
        taken = set(self.column_of.values())
        self.others = [name for name in source.columns if name not in taken]
        refuse_twice(source.path, source.columns, source.columns if rest else taken)
        signals = [field for field in self.column_of if field.startswith(SIGNAL_PREFIX)]
        self.schema = pa.schema([*SCHEMAS[self.name], *((field, SIGNAL) for field in signals)])
        self._read: dict[str, Callable[[Any], Any]] = {
            field: self._reader(field) for field in self.column_of if not field.startswith(ATTRIBUTE)
        }

    def write(self, folder: Path) -> int:
        """Write the table. Returns the number of rows. Raises InputError when there are none, or one can't be read."""
        return write_table(folder / file_name(self.name), self.batches(), self.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the file as rows of the contract."""
        rows = self.source.rows(set(self.source.columns) if self.rest else self._needed())
        for part in iter(lambda: list(islice(rows, _BATCH)), []):
            yield self._batch(part)
        if not self.places:
            raise InputError(f"{self.source.path}: holds no rows")

    def explain(self, violation: Violation) -> str:
        """A violation of the written table, in words of the file it came from."""
        if violation.row is None or violation.row >= len(self.places):
            return f"{self.source.path}: {violation}"
        field = violation.column or ""
        column = self.column_of.get(field, field)
        said = f"{self.source.where(self.places[violation.row])}, column {column!r}: {violation.problem}"
        return said if column == field else f"{said} (for {field})"

    def notes(self) -> list[str]:
        """What the user should know about the reading."""
        said = self.source.notes() + self.tally.notes(self.name)
        if self.zero_weights:
            said.append(
                f"{self.zero_weights:,} pairs of weight 0 are taken as known answers (no negatives, never drawn as "
                "positives); leave out rows that only say that nobody clicked"
            )
        left = [name for name in self.others if not self.rest or not name]
        if left:
            names = ", ".join(map(repr, left[:8])) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
            said.append(f"{self.name}: columns that are left out: {names}")
        return said

    def _needed(self) -> set[str]:
        """Columns to read; of a path each column that it could begin with."""
        paths = self.column_of.values()
        return {name for name in self.source.columns for path in paths if path == name or path.startswith(f"{name}.")}

    def _batch(self, rows: Cells) -> pa.RecordBatch:
        self.places.extend(place for place, _ in rows)
        columns = []
        for field in self.schema:
            if field.name == "attributes":
                values: list[Any] = [list(self._attributes(place, row).items()) for place, row in rows]
            elif field.name in self._read:
                values = self._column(field.name, rows)
            else:
                values = [None] * len(rows)
            columns.append(pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _column(self, field: str, rows: Cells) -> list[Any]:
        column, read = self.column_of[field], self._read[field]
        values = []
        for place, row in rows:
            value = self._cell(row, column)
            try:
                values.append(None if value is None else read(value))
            except (UnreadableError, RecursionError) as error:
                raise self._wrong(field, column, value, place, error) from None
        return values

    def _cell(self, row: Row, column: str) -> Any:
        if column in row or not self.source.nested:
            return row.get(column)
        value = lookup(row, column)
        if value is not None:
            self.reached.add(column)
        return value

    def _reader(self, field: str) -> Callable[[Any], Any]:
        """What turns a cell into the field's value."""
        if field == "attributes":
            return lambda value: value
        if field == "slices":
            return self._slices
        if field == "grade":
            return self._grade
        kind = SIGNAL if field.startswith(SIGNAL_PREFIX) else SCHEMAS[self.name].field(field).type
        if pa.types.is_floating(kind):
            largest = FLOAT32_MAX if kind == SIGNAL else float("inf")
            numbers = Numbers(self.reading.decimal, largest, flags=field.startswith(SIGNAL_PREFIX))
            return lambda value: self._number(field, value, numbers)
        return lambda value: self._text(field, value)

    def _text(self, field: str, value: Any) -> str | None:
        """A column of text: the one place where titles, descriptions and other texts are read."""
        required = field in REQUIRED[self.name]
        if self.name == "items" and field not in _IDS:
            said, value = value, self.reading.shown(value)
            self.tally.markup[field] += value != said
        if self.reading.is_null(value, frozenset() if required else TEXT_NULLS):
            self.tally.null(field, value)
            return None
        if not required and value == []:
            return None
        said = as_id(value) if field in _IDS else as_text(value)
        if required and said in TEXT_NULLS and self.reading.default_nulls:
            self.tally.kept_word(field, said)
        return said or None

    def _number(self, field: str, value: Any, numbers: Numbers) -> float | None:
        if self.reading.is_null(value, NUMBER_NULLS):
            self.tally.null(field, value)
            return None
        number = numbers.read(value)
        self.zero_weights += field == "weight" and number == 0
        return number

    def _grade(self, value: Any) -> int | None:
        if str(value).strip() not in self.reading.labels and self.reading.is_null(value, NUMBER_NULLS):
            return None
        return as_grade(value, self.reading)

    def _slices(self, value: Any) -> list[str] | None:
        if self.reading.is_null(value, TEXT_NULLS):
            return None
        names = value if isinstance(value, list) else as_text(value).split("|")
        return [name for name in (as_text(one) for one in names if one is not None) if name]

    def _attributes(self, place: int, row: Row) -> dict[str, str]:
        found = Attributes(self.reading)
        for field, column in self.column_of.items():
            if field == "attributes" or field.startswith(ATTRIBUTE):
                self._add(found, field, column, place, self._cell(row, column))
        if self.rest:
            for name in self.others:
                if name:
                    self._add(found, ATTRIBUTE + name, name, place, row.get(name))
        return found.found

    def _add(self, found: Attributes, field: str, column: str, place: int, value: Any) -> None:
        if self.reading.is_null(value):
            return
        try:
            if field == "attributes":
                found.add_all(value)
            else:
                found.add(field.removeprefix(ATTRIBUTE), value)
        except (UnreadableError, RecursionError) as error:
            raise self._wrong(field, column, value, place, error) from None

    def _wrong(self, field: str, column: str, value: Any, place: int, error: Exception) -> InputError:
        if not isinstance(error, UnreadableError):
            error = UnreadableError("is nested too deep")
        remedy = error.remedy.format(field=field, column=column)
        where = f"{self.source.where(place)}, column {column!r}"
        return InputError(f"{where}: {shown(value)} {error.problem} (for {field}){remedy}")
