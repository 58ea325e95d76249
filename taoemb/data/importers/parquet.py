"""Parquet tables of one's own: one file, or a folder of parts as Spark writes it."""

from bisect import bisect_right
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from taoemb.data.importers.source import Row
from taoemb.errors import InputError

_BATCH = 10_000
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_INDEX = "__index_level_"  # pandas writes its row labels so


class ParquetFiles:
    """One Parquet file or a folder of them; `key=value` in a folder's name is a column, as Hive and Spark write it."""

    nested = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts = _parts(path)
        self._starts: list[int] = []
        found: dict[str, None] = {}
        for part in self._parts:
            for field in _schema(part):
                found[field.name] = None
            found |= dict.fromkeys(self._labels(part))
        self.columns = tuple(name for name in found if not name.startswith(_INDEX))

    def rows(self, wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        """Yield (row over all parts, row)."""
        start = 0
        self._starts = []
        for part in self._parts:
            self._starts.append(start)
            labels = self._labels(part)
            for batch in _batches(part, wanted):
                cells = {name: [value] * len(batch) for name, value in labels.items()}
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    if name in wanted:  # "a.b" chosen by name brings the field b of a struct a along
                        cells[name] = _values(column, part, name, start - self._starts[-1])
                for offset in range(len(batch)):
                    yield start + offset, {name: column[offset] for name, column in cells.items()}
                start += len(batch)

    def where(self, place: int) -> str:
        """Part and row in it (from 0)."""
        part = bisect_right(self._starts, place) - 1
        return f"{self._parts[part]}: row {place - self._starts[part]}"

    def lines(self) -> None:
        """A Parquet file has none."""

    def notes(self) -> list[str]:
        """Nothing: what is not plain is refused."""
        return []

    def _labels(self, part: Path) -> dict[str, str | None]:
        """Columns that stand in the names of a part's folders."""
        folders = part.parent.relative_to(self.path).parts if self.path.is_dir() else ()
        pairs = [name.partition("=") for name in folders if "=" in name]
        return {unquote(name): None if value == _NO_PARTITION else unquote(value) for name, _, value in pairs}


def _parts(path: Path) -> list[Path]:
    """The files of a folder but those that tools keep for themselves (_SUCCESS, .crc)."""
    if path.is_file():
        return [path]
    files = [one for one in sorted(path.rglob("*")) if one.is_file()]
    parts = [one for one in files if not any(name[0] in "._" for name in one.relative_to(path).parts)]
    if not parts:
        raise InputError(f"{path}: holds no Parquet files")
    return parts


@contextmanager
def _readable(part: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(part) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{part}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error


def _schema(part: Path) -> pa.Schema:
    with _readable(part) as parquet:
        names = parquet.schema_arrow.names
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{part}: the column {name!r} stands more than once; rename one")
        return parquet.schema_arrow


def _batches(part: Path, wanted: Collection[str]) -> Iterator[pa.RecordBatch]:
    with _readable(part) as parquet:
        columns = [name for name in parquet.schema_arrow.names if name in wanted]
        yield from parquet.iter_batches(_BATCH, columns=columns)


def _values(column: pa.Array, part: Path, name: str, start: int) -> list[Any]:
    """A column as Python values. Raises InputError naming the row of one that is none, e.g. text that is not UTF-8."""
    broken = f"column {name!r}: cannot be read as {column.type}"
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        for row in range(len(column)):
            try:
                column[row].as_py()
            except (ValueError, OverflowError, pa.ArrowException) as one:
                raise InputError(f"{part}: row {start + row}, {broken} ({one})") from None
        raise InputError(f"{part}: {broken} ({error})") from error
