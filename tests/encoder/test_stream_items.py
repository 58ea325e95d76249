"""A catalogue is embedded block by block, each item once, in order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.config import EncoderConfig
from taoemb.data.dataset import Catalogue, open_dataset
from taoemb.data.schemas import ITEMS
from taoemb.encoder import model
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.stream import stream_items
from taoemb.progress import Progress


@pytest.fixture
def catalogue(tmp_path: Path, texts: list[str]) -> Catalogue:
    rows = [{"item_id": f"i{n}", "title": text, "brand": "Acme" if n % 2 else None} for n, text in enumerate(texts * 3)]
    columns = {name: [row.get(name) for row in rows] for name in ("item_id", "title", "brand")}
    schema = pa.schema([ITEMS.field(name) for name in columns])
    pq.write_table(pa.table(columns, schema=schema), tmp_path / "items.parquet")
    return open_dataset(tmp_path).items


@pytest.mark.parametrize("size", [1, 4, 21, 1000])
def test_every_item_once_in_order(size: int, catalogue: Catalogue, bert_folder: Path, texts: list[str]) -> None:
    encoder = load_encoder(EncoderConfig(model=str(bert_folder), item_template="{title}[ by {brand}]"))
    bar = Progress("embed", len(catalogue))
    blocks = list(stream_items(encoder, catalogue, size, bar))
    assert all(len(rows) == len(vectors) <= size for rows, vectors in blocks)
    assert np.concatenate([rows for rows, _ in blocks]).tolist() == list(range(21))
    rendered = [f"{text} by Acme" if n % 2 else text for n, text in enumerate(texts * 3)]
    expected = encoder.encode(rendered, "item")
    np.testing.assert_allclose(np.concatenate([vectors for _, vectors in blocks]), expected, atol=1e-5)
    assert bar.done == 21


def test_a_long_list_is_tokenised_in_pieces(
    bert_folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(EncoderConfig(model=str(bert_folder)))
    expected = encoder.encode(texts * 3, "item")
    monkeypatch.setattr(model, "TEXTS_AT_ONCE", 4)
    np.testing.assert_allclose(encoder.encode(texts * 3, "item"), expected, atol=1e-5)
