"""What dataset folders are written with; `new_folder` makes them appear whole or not at all."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taoemb.data.schemas import SCHEMAS, file_name
from taoemb.errors import InputError
from taoemb.storage import new_folder

__all__ = ["check_target", "link", "new_folder", "write_table"]

ROW_GROUP = 65_536


def check_target(out: Path, *sources: Path) -> None:
    """Raise InputError when `out` holds something that is not a dataset, or is one of the `sources`."""
    for source in sources:
        if out.resolve() == source.resolve():
            raise InputError(f"{out}: is the input folder too; give another --out")
    if out.is_file():
        raise InputError(f"{out}: is a file; --out must be a folder")
    if out.is_dir():
        strangers = sorted(path.name for path in out.iterdir() if not _is_data(path))
        if strangers:
            raise InputError(
                f"{out}: holds {strangers[0]!r}, which is not part of a dataset; give an empty or new --out"
            )


def _is_data(path: Path) -> bool:
    parts = {file_name(table) for table in SCHEMAS}
    if path.is_dir():
        return path.name in {"train", "valid", "test"} and all(inner.name in parts for inner in path.iterdir())
    return path.name in parts


def write_table(path: Path, table: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema | None = None) -> int:
    """Write a Parquet file (zstd, row groups of 65,536); record batches need their `schema`. Returns the row count."""
    batches: Iterable[pa.RecordBatch] = table
    if isinstance(table, pa.Table):
        batches, schema = table.to_batches(), table.schema
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=ROW_GROUP)
            rows += len(batch)
    return rows


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the file system cannot link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
