"""Wayfair's WANDS as published: three tab-separated files, labels Exact, Partial, Irrelevant.

Source: github.com/wayfair/WANDS. Exact → 4, Partial → 3, Irrelevant → 1. Rating and review numbers become signals.
Copies saved by other tools are read as well: with commas or semicolons, a byte-order mark, UTF-16, packed.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taoemb.data.checks import Violation
from taoemb.data.doubts import Doubt
from taoemb.data.files import write_table
from taoemb.data.importers.common import Links, import_into, need_files
from taoemb.data.importers.decoding import check_encoding
from taoemb.data.importers.delimited import CsvFile, Dialect
from taoemb.data.importers.values import FLOAT32_MAX, NUMBER_NULLS, TEXT_NULLS, Numbers, Reading, UnreadableError
from taoemb.data.schemas import ITEMS, QUERIES, SIGNAL, file_name
from taoemb.errors import InputError

GRADES = {"Exact": 4, "Partial": 3, "Irrelevant": 1}
SIGNALS = ("rating_count", "average_rating", "review_count")
_ITEMS = pa.schema([*ITEMS, *((f"signal_{name}", SIGNAL) for name in SIGNALS)])
_PRODUCT = ("product_id", "product_name", "product_class", "product_description", "product_features", *SIGNALS)
_BATCH = 10_000
Rows = list[tuple[int, dict[str, str]]]  # (line, cells)


class _File:
    """One of the three files, its rows in batches."""

    def __init__(self, path: Path, columns: Sequence[str], dialect: Dialect) -> None:
        self.columns = columns
        most = len(columns) // 2 + 1  # of the columns, so that the one that is missing can be named
        self.source = CsvFile(path, dialect, lambda header: len(set(columns) & set(header)) >= most)
        missing = [name for name in columns if name not in self.source.columns]
        if missing:
            raise InputError(
                f"{path}: column {missing[0]!r} is missing; expected tab-separated {', '.join(columns)}"
                " (commas and semicolons are read too)"
            )
        twice = [name for name in columns if self.source.columns.count(name) > 1]
        if twice:
            raise InputError(f"{path}: the header has {twice[0]!r} more than once; rename one")

    def batches(self) -> Iterator[Rows]:
        """Yield rows as (line, cells). Raises InputError where the file is broken."""
        rows = iter(self.source.rows(self.columns))
        while part := [
            (line, {name: row[name].strip() for name in self.columns}) for line, row in islice(rows, _BATCH)
        ]:
            yield part


def import_wands(
    source: Path, out: Path, *, encoding: str | None = None, multiline: bool = False, raw_text: bool = False
) -> dict[str, Any]:
    """Import WANDS from the folder `source` (query.csv, product.csv, label.csv).

    The category is `product_class`, features ("name : value|…") become attributes, and a query's class its slice
    `category:…`. HTML is taken out of products' texts unless `raw_text`. Exact matches also become pairs. `encoding`
    and `multiline` as for CSV (taoemb.data.importers.delimited). Returns counts and notes. Raises InputError for what
    cannot be read.
    """
    source, out = Path(source), Path(out)
    queries, products, labels = need_files(source, ("query.csv", "product.csv", "label.csv"))
    reading, dialect = Reading(raw_text=raw_text), Dialect(encoding, None, multiline)
    if encoding is not None:
        check_encoding(encoding)
    counts = {"items": 0, "queries": 0}
    doubts: list[Doubt] = []
    paths = {file_name("items"): products, file_name("queries"): queries}

    def explain(violation: Violation) -> str:
        return f"{paths.get(violation.file, labels)}: {violation}"

    with import_into(out, source, explain=explain, doubts=doubts) as folder:
        with pq.ParquetWriter(folder / file_name("items"), _ITEMS, compression="zstd") as writer:
            file = _File(products, _PRODUCT, dialect)
            for rows in file.batches():
                writer.write_batch(_items(file.source, rows, reading))
                counts["items"] += len(rows)
        file = _File(queries, ("query_id", "query", "query_class"), dialect)
        asked = [row for rows in file.batches() for _, row in rows]
        counts["queries"] = write_table(folder / file_name("queries"), _queries_table(asked))
        with Links(folder) as links:
            file = _File(labels, ("query_id", "product_id", "label"), dialect)
            for rows in file.batches():
                grades = pa.array([_grade(file.source, line, row["label"]) for line, row in rows], pa.int8())
                links.add(_ids(rows, "query_id"), _ids(rows, "product_id"), grades, "wands")
    return {"out": str(out), **counts, **links.count, "notes": [str(doubt) for doubt in doubts]}


def _grade(file: CsvFile, line: int, label: str) -> int:
    for name, grade in GRADES.items():
        if label.casefold() == name.casefold():
            return grade
    known = ", ".join(GRADES)
    raise InputError(f"{file.where(line)}, column 'label': label {label!r} is none of {known}")


def _ids(rows: Rows, name: str) -> pa.Array:
    return pa.array([row[name] or None for _, row in rows], pa.string())


def _items(file: CsvFile, rows: Rows, reading: Reading) -> pa.RecordBatch:
    kind = ITEMS.field("attributes").type
    columns = [
        _ids(rows, "product_id"),
        pa.array([reading.shown(row["product_name"]) or None for _, row in rows], pa.string()),
        pa.nulls(len(rows), pa.string()),
        *(_texts(rows, name, reading) for name in ("product_class", "product_description")),
        pa.nulls(len(rows), pa.float64()),
        pa.array([list(_features(row["product_features"], reading).items()) for _, row in rows], kind),
        *(_numbers(file, rows, name, reading) for name in SIGNALS),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_ITEMS)


def _texts(rows: Rows, name: str, reading: Reading) -> pa.Array:
    """A column of texts; empty ones and words for missing are null."""
    texts = [reading.shown(row[name]) for _, row in rows]
    return pa.array([None if reading.is_null(text, TEXT_NULLS) else text for text in texts], pa.string())


def _features(features: str, reading: Reading) -> dict[str, str]:
    """ "style : modern|style : rustic|width:64" as {"style": "modern, rustic", "width": "64"}."""
    found: dict[str, list[str]] = {}
    for entry in features.split("|"):
        name, colon, value = (reading.shown(part.strip()) for part in entry.partition(":"))
        if colon and name and value and value not in found.setdefault(name, []):
            found[name].append(value)
    return {name: ", ".join(values) for name, values in found.items() if values}


def _numbers(file: CsvFile, rows: Rows, name: str, reading: Reading) -> pa.Array:
    numbers = Numbers(None, FLOAT32_MAX)
    values: list[float | None] = []
    for line, row in rows:
        try:
            values.append(None if reading.is_null(row[name], NUMBER_NULLS) else numbers.read(row[name]))
        except UnreadableError as error:
            raise InputError(f"{file.where(line)}, column {name!r}: {row[name]!r} {error.problem}") from None
    return pa.array(values, SIGNAL)


def _queries_table(rows: list[dict[str, str]]) -> pa.Table:
    slices = [[f"category:{row['query_class']}"] if row["query_class"] else [] for row in rows]
    ids, texts = ([row[name] or None for row in rows] for name in ("query_id", "query"))
    columns = [pa.array(ids, pa.string()), pa.array(texts, pa.string()), pa.array(slices, pa.list_(pa.string()))]
    return pa.Table.from_arrays(columns, schema=QUERIES)
