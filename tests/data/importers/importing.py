"""What tests of importers share: import one file of items (or more) and see what came out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from taoemb.data.importers.tabular import TableImport, import_csv, import_jsonl, import_parquet
from taoemb.errors import InputError

IMPORTERS: dict[str, Callable[[TableImport, Path], dict[str, Any]]] = {
    "csv": import_csv,
    "jsonl": import_jsonl,
    "parquet": import_parquet,
}


def imported(root: Path, kind: str, content: bytes | str | Path, **options: Any) -> tuple[dict[str, Any], list[dict]]:
    """Import items from `content` (or the file that it names). Returns the result and the records as they came out."""
    if isinstance(content, str | bytes):
        path = root / f"items.{kind}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    else:
        path = content
    result = IMPORTERS[kind](TableImport(path, **options), root / "out")
    return result, records(root / "out", "items")


def records(folder: Path, table: str) -> list[dict]:
    """The rows of a table that was written, without what is null; attributes as a dict."""
    rows = pq.read_table(folder / f"{table}.parquet").to_pylist()
    if table == "items":
        rows = [row | {"attributes": dict(row["attributes"] or ())} for row in rows]
    return [{name: value for name, value in row.items() if value not in (None, {})} for row in rows]


def kind_of(value: object) -> str:
    """A test's name for a parameter whose bytes differ from one run to the next (gzip holds the time)."""
    return type(value).__name__


def refused(root: Path, kind: str, content: bytes | str | Path, **options: Any) -> str:
    """The one line with which an import is refused; nothing is left behind."""
    before = set(root.iterdir()) | {root / f"items.{kind}"}
    with pytest.raises(InputError) as caught:
        imported(root, kind, content, **options)
    assert set(root.iterdir()) <= before
    message = str(caught.value)
    assert "\n" not in message
    return message
