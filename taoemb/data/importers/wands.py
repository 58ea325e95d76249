"""Wayfair's WANDS as published: three tab-separated files, labels Exact, Partial, Irrelevant.

Source: github.com/wayfair/WANDS. Exact → 4, Partial → 3, Irrelevant → 1. Rating and review numbers become signals.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taoemb.data.files import write_table
from taoemb.data.importers.common import Links, grades_of, import_into, need_files
from taoemb.data.schemas import ITEMS, QUERIES, SIGNAL, file_name
from taoemb.errors import InputError

GRADES = {"Exact": 4, "Partial": 3, "Irrelevant": 1}
SIGNALS = ("rating_count", "average_rating", "review_count")
_ITEMS = pa.schema([*ITEMS, *((f"signal_{name}", SIGNAL) for name in SIGNALS)])
_BATCH = 10_000


def import_wands(source: Path, out: Path) -> dict[str, Any]:
    """Import WANDS from the folder `source` (query.csv, product.csv, label.csv).

    The category is `product_class`, features ("name : value|…") become attributes, and a query's class its slice
    `category:…`. Exact matches also become pairs. Returns counts.
    """
    source, out = Path(source), Path(out)
    queries, products, labels = need_files(source, ("query.csv", "product.csv", "label.csv"))
    counts = {"items": 0, "queries": 0}
    with import_into(out, source) as folder:
        with pq.ParquetWriter(folder / file_name("items"), _ITEMS, compression="zstd") as writer:
            names = ("product_id", "product_name", "product_class", "product_description", "product_features", *SIGNALS)
            for start, rows in _rows(products, names):
                writer.write_batch(_items(products, start, rows))
                counts["items"] += len(rows)
        asked = [row for _, rows in _rows(queries, ("query_id", "query", "query_class")) for row in rows]
        counts["queries"] = write_table(folder / file_name("queries"), _queries_table(asked))
        with Links(folder) as links:
            for start, rows in _rows(labels, ("query_id", "product_id", "label")):
                grades = grades_of(_texts(rows, "label"), GRADES, labels, "label", start)
                links.add(_texts(rows, "query_id"), _texts(rows, "product_id"), grades, "wands")
    return {"out": str(out), **counts, **links.count}


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """Batches of rows as dicts, each with its first row number."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        start = 0
        rows: list[dict[str, str]] = []
        try:
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: column {missing[0]!r} is missing; expected tab-separated {', '.join(columns)}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(f"{path}: row {start + len(rows)}: has more or fewer cells than the header")
                rows.append(row)
                if len(rows) == _BATCH:
                    yield start, rows
                    start, rows = start + len(rows), []
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read near row {start + len(rows)} ({error})") from error
        if rows:
            yield start, rows


def _texts(rows: list[dict[str, str]], name: str) -> pa.Array:
    return pa.array([row[name].strip() or None for row in rows], pa.string())


def _items(path: Path, start: int, rows: list[dict[str, str]]) -> pa.RecordBatch:
    n = len(rows)
    columns = [
        _texts(rows, "product_id"),
        _texts(rows, "product_name"),
        pa.nulls(n, pa.string()),
        _texts(rows, "product_class"),
        _texts(rows, "product_description"),
        pa.nulls(n, pa.float64()),
        pa.array([list(_features(row["product_features"]).items()) for row in rows], ITEMS.field("attributes").type),
        *(_numbers(path, start, rows, name) for name in SIGNALS),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_ITEMS)


def _features(features: str) -> dict[str, str]:
    """ "style : modern|style : rustic|width:64" as {"style": "modern, rustic", "width": "64"}."""
    found: dict[str, list[str]] = {}
    for entry in features.split("|"):
        name, colon, value = (part.strip() for part in entry.partition(":"))
        if colon and name and value and value not in found.setdefault(name, []):
            found[name].append(value)
    return {name: ", ".join(values) for name, values in found.items() if values}


def _numbers(path: Path, start: int, rows: list[dict[str, str]], name: str) -> pa.Array:
    values: list[float | None] = []
    for row, record in enumerate(rows, start):
        try:
            values.append(float(record[name]) if record[name].strip() else None)
        except ValueError:
            raise InputError(f"{path}: row {row}, column {name!r}: {record[name]!r} is not a number") from None
    return pa.array(values, SIGNAL)


def _queries_table(rows: list[dict[str, str]]) -> pa.Table:
    slices = [[f"category:{row['query_class'].strip()}"] if row["query_class"].strip() else [] for row in rows]
    columns = [_texts(rows, "query_id"), _texts(rows, "query"), pa.array(slices, pa.list_(pa.string()))]
    return pa.Table.from_arrays(columns, schema=QUERIES)
