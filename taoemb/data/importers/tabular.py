"""Plain CSV and JSON Lines with a column mapping, for catalogues and logs of one's own.

A mapping line is `field=column`, where the field is a column of the contract (`title`, `signal_rating`, …) or an
attribute (`attributes.colour`); in front of it may stand the table that it is for (`judgments.item_id=sku`). Fields
that are not mapped are taken from the column of their own name.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from taoemb.data.files import write_table
from taoemb.data.importers.common import import_into
from taoemb.data.schemas import REQUIRED, SCHEMAS, SIGNAL, SIGNAL_PREFIX, file_name
from taoemb.errors import InputError

_BATCH = 10_000
_ATTRIBUTE = "attributes."
Row = Mapping[str, Any]


@dataclass(frozen=True)
class TableImport:
    """What to import: the items' file and, when there are any, those of the other tables (all of one format)."""

    items: Path
    queries: Path | None = None
    pairs: Path | None = None
    judgments: Path | None = None
    mapping: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()  # LABEL=GRADE, for grades that are written as words
    rest_as_attributes: bool = False
    delimiter: str = ","


def import_csv(source: TableImport, out: Path) -> dict[str, Any]:
    """Import CSV files with a header. Several slices in one cell are separated by `|`. Returns counts."""
    return _import(source, out, lambda path: _csv_rows(path, source.delimiter))


def import_jsonl(source: TableImport, out: Path) -> dict[str, Any]:
    """Import files with one JSON object a line; `attributes` may be an object, `slices` a list. Returns counts."""
    return _import(source, out, _json_rows)


def _import(source: TableImport, out: Path, read: Callable[[Path], Iterator[Row]]) -> dict[str, Any]:
    out = Path(out)
    files = {name: Path(vars(source)[name]) for name in SCHEMAS if vars(source)[name] is not None}
    for path in files.values():
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    mapping = _parse_mapping(source.mapping)
    labels = _parse_grades(source.grades)
    counts: dict[str, int] = {}
    unseen = set(mapping.values())
    with import_into(out, files["items"]) as folder:
        for name, path in files.items():
            table = _Table(name, path, mapping, labels, source.rest_as_attributes and name == "items")
            counts[name] = table.write(folder, read(path))
            unseen -= table.seen
        if unseen:
            raise InputError(f"--map: no file has a column {sorted(unseen)[0]!r}")
    return {"out": str(out), **counts}


def _parse_mapping(lines: tuple[str, ...]) -> dict[tuple[str | None, str], str]:
    """(table or None, field) → column. Raises InputError on a line that is not `field=column` of a known field."""
    fields = {name for schema in SCHEMAS.values() for name in schema.names}
    mapping: dict[tuple[str | None, str], str] = {}
    for line in lines:
        key, equals, column = line.partition("=")
        front, dot, rest = key.partition(".")
        table, field = (front, rest) if dot and front in SCHEMAS else (None, key)
        if not equals or not column or not (field in fields or field.startswith((_ATTRIBUTE, SIGNAL_PREFIX))):
            raise InputError(f"--map {line!r}: expected FIELD=COLUMN, e.g. title=name or attributes.colour=Colour")
        mapping[table, field] = column
    return mapping


def _parse_grades(lines: tuple[str, ...]) -> dict[str, int]:
    labels: dict[str, int] = {}
    for line in lines:
        label, equals, grade = line.partition("=")
        if not equals or grade not in {"1", "2", "3", "4"}:
            raise InputError(f"--grade {line!r}: expected LABEL=GRADE with a grade from 1 to 4, e.g. Exact=4")
        labels[label] = int(grade)
    return labels


class _Table:
    """Turns the rows of one source file into one table of the contract."""

    def __init__(
        self, name: str, path: Path, mapping: dict[tuple[str | None, str], str], labels: dict[str, int], rest: bool
    ) -> None:
        self.name, self.path, self.labels, self.rest = name, path, labels, rest
        own = SCHEMAS[name].names
        wanted = [field for table, field in mapping if table in (None, name) and (field in own or name == "items")]
        self.column_of = {
            field: mapping.get((name, field), mapping.get((None, field), field))
            for field in (*own, *wanted)
            if field in own or field.startswith((_ATTRIBUTE, SIGNAL_PREFIX))
        }
        self.seen: set[str] = set()  # columns that the file has

    def write(self, folder: Path, rows: Iterator[Row]) -> int:
        """Write the table in batches. Returns the number of rows."""
        parts = _batched(rows)
        first = next(parts, None)
        if first is None:
            raise InputError(f"{self.path}: holds no rows")
        self._settle(dict.fromkeys(name for row in first[1] for name in row))
        schema = self._schema()
        batches = (self._batch(start, part, schema) for start, part in chain([first], parts))
        return write_table(folder / file_name(self.name), batches, schema)

    def _settle(self, columns: Mapping[str, None]) -> None:
        """Take a field's own name where the mapped column is another table's; signals of the file come along."""
        for field, column in self.column_of.items():
            if column not in columns and field in columns:
                self.column_of[field] = field
        for field in REQUIRED[self.name]:
            column = self.column_of[field]
            if column not in columns:
                raise InputError(f"{self.path}: has no column {column!r} for {field}; use --map {field}=COLUMN")
        if self.name == "items":
            named = [name for name in columns if name.startswith(SIGNAL_PREFIX)]
            self.column_of |= {name: name for name in named if name not in self.column_of.values()}

    def _schema(self) -> pa.Schema:
        signals = [field for field in self.column_of if field.startswith(SIGNAL_PREFIX)]
        return pa.schema([*SCHEMAS[self.name], *((field, SIGNAL) for field in signals)])

    def _batch(self, start: int, rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
        self.seen.update(*rows)
        columns = []
        for field in schema:
            values = [self._value(field, row, start + i) for i, row in enumerate(rows)]
            columns.append(pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _value(self, field: pa.Field, row: Row, number: int) -> Any:
        if field.name == "attributes":
            return list(self._attributes(row).items())
        value = row.get(self.column_of[field.name])
        if value is None or value == "":
            return None
        if field.name == "slices":
            return [str(name) for name in value] if isinstance(value, list) else str(value).split("|")
        if pa.types.is_string(field.type):
            return self._wrong(field, value, number, "text") if isinstance(value, dict | list) else str(value).strip()
        if field.name == "grade" and str(value) in self.labels:
            return self.labels[str(value)]
        try:
            parsed = int(str(value)) if pa.types.is_integer(field.type) else float(str(value))
        except ValueError:
            return self._wrong(field, value, number, "a number")
        if field.name == "grade" and not 1 <= parsed <= 4:
            return self._wrong(field, value, number, "a grade from 1 to 4")
        return parsed

    def _wrong(self, field: pa.Field, value: Any, number: int, expected: str) -> Any:
        where = f"{self.path}: row {number}, column {self.column_of[field.name]!r}"
        raise InputError(f"{where}: {value!r} is not {expected} (for {field.name})")

    def _attributes(self, row: Row) -> dict[str, str]:
        own = row.get(self.column_of["attributes"])
        found = {str(name): value for name, value in own.items()} if isinstance(own, dict) else {}
        for field, column in self.column_of.items():
            if field.startswith(_ATTRIBUTE):
                found[field.removeprefix(_ATTRIBUTE)] = row.get(column)
        if self.rest:
            taken = set(self.column_of.values())
            found |= {name: value for name, value in row.items() if name not in taken}
        return {name: _as_text(value) for name, value in found.items() if value not in (None, "", [], {})}


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(_as_text, value)) if isinstance(value, list) else str(value)


def _batched(rows: Iterator[Row]) -> Iterator[tuple[int, list[Row]]]:
    start = 0
    while part := list(islice(rows, _BATCH)):
        yield start, part
        start += len(part)


def _csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    number = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for number, row in enumerate(csv.DictReader(file, delimiter=delimiter)):
                if None in row or None in row.values():
                    raise InputError(f"{path}: row {number}: has more or fewer cells than the header")
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as CSV near row {number} ({error})") from error


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(line for line in file if line.strip()):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: row {number} is not JSON ({error})") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}: row {number} is not a JSON object")
            yield row
