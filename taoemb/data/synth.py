"""Writes a generated shop as a dataset folder: items, queries of six kinds, clicks, and rule grades.

Everything follows from the seed: the same call writes the same bytes.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from taoemb.data.dataset import Catalogue
from taoemb.data.files import check_target, new_folder, write_table
from taoemb.data.oracle import ShopView
from taoemb.data.schemas import JUDGMENTS, PAIRS, QUERIES, RULE_SOURCE, SPEC
from taoemb.data.shop_items import make_items
from taoemb.data.shop_queries import ShopQuery, make_queries
from taoemb.data.taxonomy import load_shop
from taoemb.errors import InputError
from taoemb.progress import progress

MAX_GOOD = 200  # judged items of grade 3 and 4 a query at most; below that all of them are judged
MISMATCHES, IRRELEVANT = 24, 10  # judged items of grade 2 (three quarters from the category itself) and 1
CLICKS = 16  # clicks drawn a query


def synthesise(out: Path, items: int, queries: int, seed: int = 0) -> dict[str, Any]:
    """Write a shop of `items` items and `queries` queries into the folder `out`. Returns counts.

    Judgments (source "rule") hold every item of grade 3 and 4 up to 200 a query, and samples of the others; pairs are
    clicks on grade-4 items, drawn by popularity (signal_sales), their weight the number of clicks. Raises InputError
    when `out` holds something else, or when so many distinct queries cannot be made.
    """
    out = Path(out)
    if items < 1 or queries < 0:
        raise InputError(f"a shop needs at least one item and no negative number of queries; got {items} and {queries}")
    check_target(out)
    shop = load_shop()
    table = make_items(shop, items, np.random.default_rng([seed, 0]))
    view = ShopView(Catalogue(table))
    asked = make_queries(shop, view, queries, np.random.default_rng([seed, 1]))
    rng = np.random.default_rng([seed, 2])
    sales = table.column("signal_sales").to_numpy()
    judged, clicked = [], []
    with progress("judging by rule", len(asked)) as bar:
        for query in asked:
            judged.append(_judged_rows(view, query, rng))
            clicked.append(_clicks(query.grades, sales, rng))
            bar.advance()
    query_ids = pa.array([f"q{i:05d}" for i in range(len(asked))], pa.string())
    ids = table.column("item_id").combine_chunks()
    with new_folder(out) as folder:
        write_table(folder / "items.parquet", table)
        write_table(folder / "queries.parquet", _queries_table(query_ids, asked))
        pairs = write_table(folder / "pairs.parquet", _pairs_table(query_ids, ids, clicked))
        judgments = write_table(folder / "judgments.parquet", _judgments_table(query_ids, ids, asked, judged))
    kinds = Counter(query.slices[0] for query in asked)
    return {"out": str(out), "items": items, "queries": len(asked), "pairs": pairs, "judgments": judgments, **kinds}


def _judged_rows(view: ShopView, query: ShopQuery, rng: np.random.Generator) -> np.ndarray:
    """Rows to judge for a query, ascending."""
    grades = query.grades
    good = np.flatnonzero(grades >= 3)
    if len(good) > MAX_GOOD:
        good = rng.choice(good, MAX_GOOD, replace=False)
    category = np.concatenate([view.rows("category", target["category"]) for target in query.spec["targets"]])
    hard = category[grades[category] == 2]
    hard = rng.permutation(hard)[: MISMATCHES * 3 // 4]
    near = np.setdiff1d(np.flatnonzero(grades == 2), hard)
    near = rng.permutation(near)[: MISMATCHES - len(hard)]
    far = rng.integers(len(grades), size=IRRELEVANT * 2)
    far = np.unique(far[grades[far] == 1])[:IRRELEVANT]
    return np.unique(np.concatenate([good, hard, near, far]))


def _clicks(grades: np.ndarray, sales: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Clicked rows and how often each was."""
    rows = np.flatnonzero(grades == 4)
    weights = sales[rows] + 1.0
    return np.unique(rng.choice(rows, CLICKS, p=weights / weights.sum()), return_counts=True)


def _queries_table(query_ids: pa.Array, asked: list[ShopQuery]) -> pa.Table:
    columns = [
        query_ids,
        pa.array([query.text for query in asked], pa.string()),
        pa.array([list(query.slices) for query in asked], pa.list_(pa.string())),
        pa.array([query.spec_json for query in asked], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=QUERIES.append(SPEC))


def _pairs_table(query_ids: pa.Array, ids: pa.Array, clicked: list[tuple[np.ndarray, np.ndarray]]) -> pa.Table:
    owners, rows = _flat([rows for rows, _ in clicked])
    weights = _joined([counts for _, counts in clicked]).astype(np.float32)
    return pa.Table.from_arrays([query_ids.take(owners), ids.take(rows), pa.array(weights)], schema=PAIRS)


def _judgments_table(query_ids: pa.Array, ids: pa.Array, asked: list[ShopQuery], judged: list[np.ndarray]) -> pa.Table:
    owners, rows = _flat(judged)
    grades = _joined([query.grades[rows] for query, rows in zip(asked, judged, strict=True)]).astype(np.int8)
    columns = [query_ids.take(owners), ids.take(rows), pa.array(grades), pa.repeat(RULE_SOURCE, len(grades))]
    return pa.Table.from_arrays(columns, schema=JUDGMENTS)


def _flat(rows: list[np.ndarray]) -> tuple[pa.Array, pa.Array]:
    """Query number and item row of every entry."""
    owners = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    return pa.array(owners), pa.array(_joined(rows).astype(np.int64))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0), *parts])
