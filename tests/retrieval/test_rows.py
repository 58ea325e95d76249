"""Rows of a catalogue: read from a mapped file that leaves nothing behind, hashed as they always were."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from taoemb.data.files import write_table
from taoemb.retrieval.rows import open_rows


def test_rows_outlive_their_temporary_file(tmp_path: Path, monkeypatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    table = pa.table({"item_id": ["a", "b"], "title": ["red sofa", "größe 42"]})
    (tmp_path / "shop").mkdir()
    write_table(tmp_path / "shop" / "items.parquet", table)
    before = pa.total_allocated_bytes()
    rows = open_rows(tmp_path / "shop", "{title}")
    assert list(scratch.iterdir()) == []
    assert pa.total_allocated_bytes() - before < 1024, "the catalogue is mapped, not held"
    assert [text for _, text in rows.read(0, 2)] == ["red sofa", "größe 42"]


def test_a_row_hash_is_that_of_its_sorted_json(tmp_path: Path) -> None:
    import hashlib

    table = pa.table({"item_id": ["a"], "title": ["größe 42"], "price": [3.5]})
    write_table(tmp_path / "items.parquet", table)
    rows = open_rows(tmp_path, "{title}")
    [(entity, text)] = rows.read(0, 1)
    content = {name: value for name, value in entity.items() if name != "row_hash"}
    whole = json.dumps([text, content], sort_keys=True, ensure_ascii=False).encode()
    digest = hashlib.blake2b(whole, digest_size=8).digest()
    np.testing.assert_array_equal(rows.hashes(), [int.from_bytes(digest, "little", signed=True)])
