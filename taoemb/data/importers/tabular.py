"""Plain CSV, JSON Lines and Parquet with a column mapping, for catalogues and logs of one's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taoemb.data.checks import Violation
from taoemb.data.doubts import NULL_WORD, ZERO_WEIGHT, Doubt
from taoemb.data.importers.columns import Columns, parse_mapping
from taoemb.data.importers.common import import_into
from taoemb.data.importers.decoding import check_encoding
from taoemb.data.importers.delimited import CsvFile, Dialect
from taoemb.data.importers.json_lines import JsonFile
from taoemb.data.importers.parquet import ParquetFiles
from taoemb.data.importers.source import SourceFile
from taoemb.data.importers.table import Table
from taoemb.data.importers.values import Reading
from taoemb.data.schemas import SCHEMAS, file_name
from taoemb.errors import InputError


@dataclass(frozen=True)
class TableImport:
    """What to import: the items' file and, when there are any, those of the other tables (all of one format)."""

    items: Path
    queries: Path | None = None
    pairs: Path | None = None
    judgments: Path | None = None
    mapping: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()  # LABEL=GRADE, for grades that are written as words or in another scale
    rest_as_attributes: bool = False
    encoding: str | None = None
    delimiter: str | None = None  # of CSV
    multiline: bool = False  # CSV cells may look like whole rows
    null_words: tuple[str, ...] = ()  # read as missing, beside the default list
    default_nulls: bool = True
    raw_text: bool = False  # keep HTML in titles, brands, categories, descriptions and attributes
    decimal: str | None = None  # the decimal mark of numbers written as text: "." or ","


def import_csv(source: TableImport, out: Path) -> dict[str, Any]:
    """Import CSV files with a header. Several slices in one cell are separated by `|`. Returns counts and notes."""
    dialect = Dialect(source.encoding, source.delimiter, source.multiline)
    if source.delimiter is not None and (len(source.delimiter) != 1 or source.delimiter in '"\r\n\0'):
        raise InputError(f"--delimiter {source.delimiter!r}: must be one character, and no quote")
    return _import(source, out, lambda path, columns: CsvFile(path, dialect, columns.fits))


def import_jsonl(source: TableImport, out: Path) -> dict[str, Any]:
    """Import files with one JSON object a line, or one array of them; `attributes` may be an object, `slices` a list.

    Returns counts and notes.
    """
    return _import(source, out, lambda path, _: JsonFile(path, source.encoding))


def import_parquet(source: TableImport, out: Path) -> dict[str, Any]:
    """Import Parquet files, or folders of their parts; also one folder with items.parquet, queries.parquet, ….

    Returns counts and notes.
    """
    inside = Path(source.items) / file_name("items")
    if inside.exists():
        there = {name: inside.with_name(file_name(name)) for name in SCHEMAS}
        given = {name: vars(source)[name] for name in SCHEMAS if name != "items" and vars(source)[name] is not None}
        found = {name: path for name, path in there.items() if path.exists()} | given
        source = TableImport(**{**vars(source), **found})
    return _import(source, out, lambda path, _: ParquetFiles(path), folders=True)


def _import(
    source: TableImport, out: Path, opened: Callable[[Path, Columns], SourceFile], folders: bool = False
) -> dict[str, Any]:
    out = Path(out)
    files = {name: Path(vars(source)[name]) for name in SCHEMAS if vars(source)[name] is not None}
    for path in files.values():
        _check_file(path, folders)
    mapping = parse_mapping(source.mapping)
    reading = _reading(source)
    counts: dict[str, int] = {}
    lines: dict[str, int] = {}
    tables: dict[str, Table] = {}

    def explain(violation: Violation) -> str:
        table = tables.get(violation.file.removesuffix(".parquet"))
        return str(violation) if table is None else table.explain(violation)

    doubts: list[Doubt] = []
    inputs = [*files.values(), *(path.parent for path in files.values())]  # none of them may be replaced
    with import_into(out, *inputs, explain=explain, doubts=doubts) as folder:
        for name, path in files.items():
            columns = Columns(name, mapping)
            table = Table(columns, opened(path, columns), reading, source.rest_as_attributes and name == "items")
            tables[name] = table
            counts[name] = table.write(folder)
            if (count := table.source.lines()) is not None:
                lines[name] = count
        reached = {name.strip().casefold() for table in tables.values() for name in table.reached}
        for column in mapping.values():
            if column and column.strip().casefold() not in reached:
                raise InputError(f"--map: no file has a column {column!r}")
    notes = [note for table in tables.values() for note in table.notes()]
    notes += [str(doubt) for doubt in doubts if doubt.problem not in (NULL_WORD, ZERO_WEIGHT)]  # the tables say those
    return {"out": str(out), **counts, **({"lines": lines} if lines else {}), "notes": notes}


def _check_file(path: Path, folders: bool) -> None:
    try:
        there, folder = path.exists(), path.is_dir()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not there:
        raise InputError(f"{path}: no such file")
    if not path.is_file() and not (folder and folders):
        raise InputError(f"{path}: is {'a folder' if folder else 'no regular file'}; give a file")


def _reading(source: TableImport) -> Reading:
    if source.decimal not in (None, ".", ","):
        raise InputError(f"--decimal {source.decimal!r}: must be . or ,")
    if source.encoding is not None:
        check_encoding(source.encoding)
    labels: dict[str, int] = {}
    for line in source.grades:
        label, equals, grade = line.rpartition("=")
        if not equals or grade not in {"1", "2", "3", "4"}:
            raise InputError(f"--grade {line!r}: expected LABEL=GRADE with a grade from 1 to 4, e.g. Exact=4")
        if labels.setdefault(label.strip(), int(grade)) != int(grade):
            raise InputError(f"--grade {line!r}: {label!r} has another grade already; name one")
    words = tuple(word.strip() for word in source.null_words)
    return Reading(words, source.default_nulls, source.decimal, labels, source.raw_text)
