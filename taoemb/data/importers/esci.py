"""Amazon's Shopping Queries data set (ESCI) as published: two Parquet files, labels E, S, C, I.

Source: github.com/amazon-science/esci-data. E Exact → 4, S Substitute → 3, C Complement → 2, I Irrelevant → 1. Samples
of it are common, so examples whose product is not in the products file are left out and counted.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taoemb.data.checks import Violation
from taoemb.data.doubts import Doubt
from taoemb.data.files import write_table
from taoemb.data.importers.common import Links, grades_of, import_into, need_files, parquet_batches, without_markup
from taoemb.data.schemas import ITEMS, QUERIES, file_name
from taoemb.errors import InputError

EXAMPLES, PRODUCTS = "shopping_queries_dataset_examples.parquet", "shopping_queries_dataset_products.parquet"
GRADES = {"E": 4, "S": 3, "C": 2, "I": 1, "Exact": 4, "Substitute": 3, "Complement": 2, "Irrelevant": 1}
_PRODUCT_COLUMNS = (
    "product_id",
    "product_title",
    "product_description",
    "product_bullet_point",
    "product_brand",
    "product_color",
    "product_locale",
)


@dataclass
class _Products:
    """What the products file held."""

    locales: set[str] = field(default_factory=set)
    kept: list[pa.Array] = field(default_factory=list)  # ids of items
    untitled: list[pa.Array] = field(default_factory=list)


def import_esci(
    source: Path,
    out: Path,
    locale: str | None = "us",
    version: Literal["small", "large"] = "large",
    raw_text: bool = False,
) -> dict[str, Any]:
    """Import ESCI from the folder `source`.

    All products of the locale (in any case) become items; `version` chooses the examples. With `locale` None every
    locale is taken and item ids read `locale:product_id` (a product id may stand in several). Products without a title,
    and products that the products file lacks, are left out with their judgments. HTML is taken out of texts unless
    `raw_text`. Queries have the slice `split:train` or `split:test`; exact matches also become pairs. Returns counts
    and notes. Raises InputError for what cannot be read, and when nothing is left.
    """
    source, out = Path(source), Path(out)
    examples, products = need_files(source, (EXAMPLES, PRODUCTS))
    doubts: list[Doubt] = []

    def explain(violation: Violation) -> str:
        file, table = (products, "items") if violation.file == file_name("items") else (examples, violation.file)
        return f"{file}: {table}: column {violation.column!r} {violation.problem}"

    with import_into(out, source, explain=explain, doubts=doubts) as folder:
        found = _Products()
        with pq.ParquetWriter(folder / file_name("items"), ITEMS, compression="zstd") as writer:
            for batch in parquet_batches(products, _PRODUCT_COLUMNS):
                writer.write_batch(_items(batch, locale, raw_text, found))
        items = sum(map(len, found.kept))
        if items == 0:
            known = ", ".join(sorted(found.locales)) or "none"
            raise InputError(
                f"{products}: no product of locale {locale!r} with a title; it has the locales {known}: choose another "
                "--locale, or all"
            )
        counts = _examples(examples, folder, locale, version, found)
    untitled = sum(map(len, found.untitled))
    return {
        "out": str(out),
        "items": items,
        **counts,
        "items_without_title": untitled,
        "notes": [str(doubt) for doubt in doubts],
    }


def _of_locale(batch: pa.RecordBatch, locale: str | None) -> pa.RecordBatch:
    if locale is None:
        return batch
    return batch.filter(pc.equal(pc.utf8_lower(batch.column("product_locale")), locale.strip().lower()))


def _item_ids(batch: pa.RecordBatch, locale: str | None) -> pa.Array:
    ids = batch.column("product_id")
    return ids if locale is not None else pc.binary_join_element_wise(batch.column("product_locale"), ids, ":")


def _items(batch: pa.RecordBatch, locale: str | None, raw_text: bool, found: _Products) -> pa.RecordBatch:
    """The products of the locale that have a title, as items."""
    found.locales.update(batch.column("product_locale").drop_null().unique().to_pylist())
    kept = _of_locale(batch, locale)
    titles = without_markup(kept.column("product_title"), raw_text)
    named = pc.is_valid(titles)
    found.untitled.append(_item_ids(kept.filter(pc.invert(named)), locale))
    kept, titles = kept.filter(named), titles.filter(named)
    ids = _item_ids(kept, locale)
    found.kept.append(ids)
    parts = [without_markup(kept.column(f"product_{part}"), raw_text) for part in ("description", "bullet_point")]
    described = pc.binary_join_element_wise(*(pc.fill_null(part, "") for part in parts), "\n")
    described = pc.utf8_trim_whitespace(described)
    colour = without_markup(kept.column("product_color"), raw_text)
    lengths = pc.cast(pc.is_valid(colour), pa.int32())
    offsets = pc.cumulative_sum(pa.concat_arrays([pa.array([0], pa.int32()), lengths]))
    values = colour.drop_null()
    columns = [
        ids,
        titles,
        without_markup(kept.column("product_brand"), raw_text),
        pa.nulls(len(kept), pa.string()),
        pc.if_else(pc.equal(pc.binary_length(described), 0), None, described),
        pa.nulls(len(kept), pa.float64()),
        pa.MapArray.from_arrays(offsets, pa.repeat("colour", len(values)), values),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ITEMS)


def _examples(path: Path, folder: Path, locale: str | None, version: str, found: _Products) -> dict[str, int]:
    flag = f"{version}_version"
    columns = ("query_id", "query", "product_id", "product_locale", "esci_label", "split", flag)
    known = pa.concat_arrays(found.kept)
    untitled = pa.concat_arrays(found.untitled)
    queries: dict[str, tuple[str | None, str | None]] = {}
    start = unknown = 0
    with Links(folder) as links:
        for batch in parquet_batches(path, columns):
            grades = grades_of(batch.column("esci_label"), GRADES, path, "esci_label", start)
            start += len(batch)
            kept = _of_locale(batch.append_column("grade", grades), locale)
            kept = kept.filter(pc.is_in(pc.utf8_lower(kept.column(flag)), value_set=pa.array(["1", "true"])))
            _take_queries(kept, queries, path)
            ids = _item_ids(kept, locale)
            there = pc.is_in(ids, value_set=known)
            unknown += len(ids) - pc.sum(pc.or_(there, pc.is_in(ids, value_set=untitled))).as_py() if len(ids) else 0
            kept, ids = kept.filter(there), ids.filter(there)
            links.add(kept.column("query_id"), ids, kept.column("grade"), "esci")
    if not queries:
        raise InputError(f"{path}: no example of locale {locale or 'all'!r} has {flag} 1; choose another --version")
    if not links.count["judgments"]:
        raise InputError(f"{path}: none of its products is in {PRODUCTS} with a title; take both files from one source")
    slices = [[f"split:{part}"] if part else [] for _, part in queries.values()]
    arrays = [pa.array(list(queries), pa.string()), pa.array([said for said, _ in queries.values()], pa.string())]
    table = pa.Table.from_arrays([*arrays, pa.array(slices, pa.list_(pa.string()))], schema=QUERIES)
    written = write_table(folder / file_name("queries"), table)
    return {"queries": written, **links.count, "judgments_of_unknown_products": unknown}


def _take_queries(batch: pa.RecordBatch, queries: dict[str, tuple[str | None, str | None]], path: Path) -> None:
    """Add a batch's queries. Raises InputError when one id stands for two texts."""
    for query_id, said, part in zip(
        *(batch.column(name).to_pylist() for name in ("query_id", "query", "split")), strict=True
    ):
        first, _ = queries.setdefault(query_id, (said, part))
        if first != said:
            raise InputError(f"{path}: query_id {query_id!r} stands for {first!r} and for {said!r}; mend one of them")
