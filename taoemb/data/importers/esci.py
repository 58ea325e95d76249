"""Amazon's Shopping Queries data set (ESCI) as published: two Parquet files, labels E, S, C, I.

Source: github.com/amazon-science/esci-data. E Exact → 4, S Substitute → 3, C Complement → 2, I Irrelevant → 1.
"""

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taoemb.data.files import write_table
from taoemb.data.importers.common import Links, grades_of, import_into, need_files, parquet_batches, text
from taoemb.data.schemas import ITEMS, QUERIES, file_name
from taoemb.errors import InputError

EXAMPLES, PRODUCTS = "shopping_queries_dataset_examples.parquet", "shopping_queries_dataset_products.parquet"
GRADES = {"E": 4, "S": 3, "C": 2, "I": 1}
_PRODUCT_COLUMNS = (
    "product_id",
    "product_title",
    "product_description",
    "product_bullet_point",
    "product_brand",
    "product_color",
    "product_locale",
)


def import_esci(
    source: Path, out: Path, locale: str | None = "us", version: Literal["small", "large"] = "large"
) -> dict[str, Any]:
    """Import ESCI from the folder `source`.

    All products of the locale become items; `version` chooses the examples. With `locale` None every locale is taken
    and item ids read `locale:product_id` (a product id may stand in several). Products without a title are left out
    with their judgments. Queries have the slice `split:train` or `split:test`; exact matches also become pairs. Returns
    counts.
    """
    source, out = Path(source), Path(out)
    examples, products = need_files(source, (EXAMPLES, PRODUCTS))
    left_out: list[pa.Array] = []
    with import_into(out, source) as folder:
        with pq.ParquetWriter(folder / file_name("items"), ITEMS, compression="zstd") as writer:
            items = 0
            for batch in parquet_batches(products, _PRODUCT_COLUMNS):
                kept = _of_locale(batch, locale)
                named = pc.is_valid(text(kept.column("product_title")))
                left_out.append(_item_ids(kept.filter(pc.invert(named)), locale))
                writer.write_batch(_items(kept.filter(named), locale))
                items += pc.sum(named).as_py() or 0
        if items == 0:
            raise InputError(f"{products}: no product of locale {locale!r}; choose another --locale")
        untitled = pa.concat_arrays(left_out)
        counts = _examples(examples, folder, locale, version, untitled)
    return {"out": str(out), "items": items, **counts, "items_without_title": len(untitled)}


def _of_locale(batch: pa.RecordBatch, locale: str | None) -> pa.RecordBatch:
    return batch if locale is None else batch.filter(pc.equal(batch.column("product_locale"), locale))


def _item_ids(batch: pa.RecordBatch, locale: str | None) -> pa.Array:
    ids = text(batch.column("product_id"))
    return ids if locale is not None else pc.binary_join_element_wise(text(batch.column("product_locale")), ids, ":")


def _items(batch: pa.RecordBatch, locale: str | None) -> pa.RecordBatch:
    n = len(batch)
    described = [pc.fill_null(text(batch.column(f"product_{part}")), "") for part in ("description", "bullet_point")]
    colour = text(batch.column("product_color"))
    lengths = pc.cast(pc.is_valid(colour), pa.int32())
    offsets = pc.cumulative_sum(pa.concat_arrays([pa.array([0], pa.int32()), lengths]))
    values = colour.drop_null()
    columns = [
        _item_ids(batch, locale),
        text(batch.column("product_title")),
        text(batch.column("product_brand")),
        pa.nulls(n, pa.string()),
        text(pc.binary_join_element_wise(*described, "\n")),
        pa.nulls(n, pa.float64()),
        pa.MapArray.from_arrays(offsets, pa.repeat("colour", len(values)), values),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ITEMS)


def _examples(path: Path, folder: Path, locale: str | None, version: str, untitled: pa.Array) -> dict[str, int]:
    flag = f"{version}_version"
    columns = ("query_id", "query", "product_id", "product_locale", "esci_label", "split", flag)
    queries: dict[str, tuple[str | None, str | None]] = {}
    start = 0
    with Links(folder) as links:
        for batch in parquet_batches(path, columns):
            grades_of(text(batch.column("esci_label")), GRADES, path, "esci_label", start)
            start += len(batch)
            kept = _of_locale(batch, locale)
            kept = kept.filter(pc.equal(kept.column(flag), 1))
            ids = text(kept.column("query_id"))
            asked = [column.to_pylist() for column in (ids, text(kept.column("query")), text(kept.column("split")))]
            for query_id, said, part in zip(*asked, strict=True):
                queries.setdefault(query_id, (said, part))
            titled = pc.invert(pc.is_in(_item_ids(kept, locale), value_set=untitled))
            kept, ids = kept.filter(titled), ids.filter(titled)
            labels = text(kept.column("esci_label"))
            links.add(ids, _item_ids(kept, locale), grades_of(labels, GRADES, path, "esci_label", 0), "esci")
    slices = [[f"split:{part}"] if part else [] for _, part in queries.values()]
    arrays = [pa.array(list(queries), pa.string()), pa.array([said for said, _ in queries.values()], pa.string())]
    table = pa.Table.from_arrays([*arrays, pa.array(slices, pa.list_(pa.string()))], schema=QUERIES)
    return {"queries": write_table(folder / file_name("queries"), table), **links.count}
