"""What one item looks like in the store: its scalar fields and a hash that says whether it must be embedded again.

The hash covers everything that the row is made from, so that publishing again after an interruption or with a new
catalogue touches only the items that changed.
"""

import hashlib
import json
import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from taoemb.data.dataset import Catalogue, open_catalogue
from taoemb.data.schemas import file_name
from taoemb.encoder.text import ItemTemplate
from taoemb.errors import InputError
from taoemb.limits import BRAND_BYTES, CATEGORY_BYTES, SIGNAL_NAME, TITLE_BYTES, cut, without_controls

TEXT_BYTES = {"title": TITLE_BYTES, "brand": BRAND_BYTES, "category": CATEGORY_BYTES}
_FILTERED = ("brand", "category")  # kept without control characters, which no filter can name
_SIGNAL = re.compile(SIGNAL_NAME)
_BATCH = 4096
_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False)  # json.dumps would make one for each row


@dataclass(frozen=True)
class ItemRows:
    """A catalogue as rows of the store: entities without their vectors, and the texts to embed."""

    catalogue: Catalogue
    template: ItemTemplate
    signals: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.catalogue)

    def read(self, start: int, stop: int) -> list[tuple[dict[str, Any], str]]:
        """(entity without vector, text) of the rows start … stop - 1."""
        names = list(dict.fromkeys(("item_id", *TEXT_BYTES, "price", *self.signals, *self.template.fields)))
        columns = (self.catalogue.column(name).slice(start, stop - start).to_pylist() for name in names)
        records = (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
        return [self._row(record) for record in records]

    def hashes(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The hashes of the rows start … stop - 1 (default: all), int64."""
        stop = len(self) if stop is None else stop
        found = np.empty(stop - start, dtype=np.int64)
        for low, high in spans(start, stop, _BATCH):
            found[low - start : high - start] = [entity["row_hash"] for entity, _ in self.read(low, high)]
        return found

    def _row(self, record: dict[str, Any]) -> tuple[dict[str, Any], str]:
        text = self.template.render(record)
        entity = {"item_id": record["item_id"], "price": _number(record["price"])}
        entity |= {name: _kept(name, record[name]) for name in TEXT_BYTES}
        entity |= {name: _number(record[name]) for name in self.signals}
        content = _JSON.encode([text, entity]).encode()
        digest = hashlib.blake2b(content, digest_size=8).digest()
        entity["row_hash"] = int.from_bytes(digest, "little", signed=True)
        return entity, text


def open_rows(data: Path, template: str) -> ItemRows:
    """The rows of a dataset folder's catalogue, mapped from a temporary file: memory doesn't grow with the catalogue.

    The file is gone when its rows are (POSIX keeps what is mapped). Raises InputError for a bad items.parquet.
    """
    with tempfile.TemporaryDirectory(prefix="taoemb-items-") as scratch:
        return item_rows(open_catalogue(data, Path(scratch)), template, data)


def item_rows(catalogue: Catalogue, template: str, root: Path) -> ItemRows:
    """The rows of a catalogue under an item template. Raises InputError when it is empty."""
    if not len(catalogue):
        raise InputError(f"{root / file_name('items')}: no items; a release is published with its catalogue")
    signals = tuple(name for name in catalogue.signals if _SIGNAL.fullmatch(name))
    return ItemRows(catalogue, ItemTemplate(template), signals)


def fingerprint(hashes: np.ndarray) -> str:
    """One name for a whole catalogue as stored, the same in any order of its rows."""
    total = int(hashes.view(np.uint64).sum(dtype=np.uint64))
    return f"{total:016x}-{len(hashes)}"


def spans(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive parts of at most `size`."""
    for low in range(start, stop, size):
        yield low, min(low + size, stop)


def with_vectors(entities: Sequence[dict[str, Any]], vectors: np.ndarray) -> list[dict[str, Any]]:
    """Entities ready to upsert; `vectors` (n, D) float32."""
    return [{**entity, "vector": vector} for entity, vector in zip(entities, vectors, strict=True)]


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _kept(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    return cut(without_controls(text) if name in _FILTERED else text, TEXT_BYTES[name])
