"""From a shop's dataset to train, valid and test: split its logged queries, or make training queries and split those.

A catalogue without pairs gets queries generated from its own structure. Queries that people graded are kept beside
them, divided in the same way: their train part helps to train judges, their test part is what evaluation sees.
"""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taoemb.config import Config
from taoemb.data.dataset import open_dataset
from taoemb.data.files import link, new_folder, write_table
from taoemb.data.queries import generate_queries
from taoemb.data.schemas import SCHEMAS, file_name
from taoemb.data.split import PARTS, split
from taoemb.data.words import near_duplicate_key

GENERATED, HUMAN = "generated", "human"
"""Slices that tell the two kinds of queries apart where a dataset holds both."""


def prepare(data: Path, out: Path, config: Config) -> dict[str, Any]:
    """Write `out`/{train,valid,test}, whole dataset folders. Returns the number of queries of each part and kind,
    and where queries were generated the language and word lists of that.

    Raises InputError when the input breaks the contract or leaves nothing to train on.
    """
    given = open_dataset(data, need=("items",))
    if given.pairs is not None and len(given.pairs):
        return split(data, out, config.split)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        work = Path(temporary)
        report = generate_queries(data, work / GENERATED, config.queries)
        language = {"language": report["language"], "word_lists": ", ".join(report["word_lists"]) or "none"}
        if given.judgments is None or not len(given.judgments):
            return {**split(work / GENERATED, out, config.split), **language}
        asked = {near_duplicate_key(text) for text in given.queries.texts}
        _tag_generated(work / GENERATED, asked, set(given.queries.ids))
        made = split(work / GENERATED, work / "split", config.split)
        own = split(data, work / HUMAN, config.split)
        with new_folder(out) as folder:
            for part in PARTS:
                _join(work / "split" / part, work / HUMAN / part, folder / part)
    counts = {part: made[part] + own[part] for part in PARTS}
    total = {GENERATED: sum(made[part] for part in PARTS), HUMAN: len(given.queries)}
    return {"out": str(out), **counts, **total, **language}


def _tag_generated(folder: Path, asked: set[tuple[str, ...]], taken: set[str]) -> None:
    """Mark generated queries with their slice; drop those that people asked too; keep their ids apart."""
    queries = pq.read_table(folder / file_name("queries"))
    keep = pa.array([near_duplicate_key(text) not in asked for text in queries.column("text").to_pylist()])
    queries = _tagged(queries.filter(keep), GENERATED)
    kept = queries.column("query_id")
    prefix = f"{GENERATED}-" if taken & set(kept.to_pylist()) else ""
    for table in ("queries", "pairs", "judgments"):
        rows = queries if table == "queries" else pq.read_table(folder / file_name(table))
        rows = rows.filter(pc.is_in(rows.column("query_id"), value_set=kept.combine_chunks()))
        ids = pc.binary_join_element_wise(prefix, rows.column("query_id").cast(pa.string()), "")
        write_table(
            folder / file_name(table), rows.set_column(rows.schema.get_field_index("query_id"), "query_id", ids)
        )


def _tagged(queries: pa.Table, name: str) -> pa.Table:
    slices = queries.column("slices").to_pylist() if "slices" in queries.column_names else [None] * len(queries)
    column = pa.array([[name, *(own or ())] for own in slices], SCHEMAS["queries"].field("slices").type)
    bare = queries.drop_columns("slices") if "slices" in queries.column_names else queries
    return bare.append_column("slices", column)


def _join(generated: Path, human: Path, out: Path) -> None:
    """One dataset of both kinds of queries over the same items."""
    out.mkdir()
    link(generated / file_name("items"), out / file_name("items"))
    link(generated / file_name("pairs"), out / file_name("pairs"))
    for table in ("queries", "judgments"):
        own = pq.read_table(human / file_name(table))
        own = _tagged(own, HUMAN) if table == "queries" else own
        made = pq.read_table(generated / file_name(table))
        joined = pa.concat_tables([_contract(made, table), _contract(own, table)], promote_options="default")
        write_table(out / file_name(table), joined)


def _contract(rows: pa.Table, table: str) -> pa.Table:
    """The contract's columns in the contract's types; other columns stay behind."""
    return pa.table(
        {
            field.name: rows.column(field.name).cast(field.type)
            for field in SCHEMAS[table]
            if field.name in rows.column_names
        }
    )
