"""What names the rows that a job reads: the same wherever the folder lies and however its files are packed.

The order of rows counts, because rows are drawn by their number. Chunks, row groups, compression and schema metadata do
not. A million items take a second or two: small beside embedding them once.
"""

import hashlib
import json
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taoemb.data.dataset import Dataset

_ROWS = 65_536  # hashed at once


class _Hash(Protocol):
    def update(self, content: bytes, /) -> None: ...


def table_fingerprint(table: pa.Table) -> str:
    """Hex digest of a table's column names, types, values and their order."""
    digest = hashlib.sha256()
    for name in sorted(table.column_names):
        column = table.column(name)
        digest.update(f"{len(name)}:{name}:{column.type}:{len(column)}".encode())
        for start in range(0, len(column), _ROWS):
            _add(digest, column.slice(start, _ROWS).combine_chunks())
    return digest.hexdigest()[:32]


def training_fingerprints(data: Dataset) -> dict[str, str]:
    """Digests of what training reads of a dataset: table → digest. Slices, specs and judgments change no number."""
    queries, pairs = data.queries, data.pairs
    tables = {
        "items": data.items.table(),
        "queries": pa.table({"query_id": pa.array(queries.ids, pa.string()), "text": queries.texts}),
    }
    if pairs is not None:
        tables["pairs"] = pa.table({"query": pairs.query_rows, "item": pairs.item_rows, "weight": pairs.weights})
    return {name: table_fingerprint(table) for name, table in tables.items()}


def _add(digest: _Hash, column: pa.Array | pa.ChunkedArray) -> None:
    if isinstance(column, pa.ChunkedArray):  # what can't be one chunk
        column = pa.concat_arrays(column.chunks)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        _add_texts(digest, column.cast(pa.large_string()))
    elif pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        zero = False if pa.types.is_boolean(kind) else 0
        digest.update(_valid(column) + pc.fill_null(column, zero).to_numpy(zero_copy_only=False).tobytes())
    else:  # attributes, slices and what else a shop adds
        digest.update(json.dumps(column.to_pylist(), default=str, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _add_texts(digest: _Hash, column: pa.Array) -> None:
    texts = pc.fill_null(column, "")
    lengths: Any = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    _, offsets, content = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    digest.update(_valid(column) + lengths.astype(np.int64).tobytes())
    if content is not None and len(texts):
        digest.update(content[int(bounds[0]) : int(bounds[-1])])


def _valid(column: pa.Array) -> bytes:
    return bytes(np.packbits(column.is_valid().to_numpy(zero_copy_only=False)))
