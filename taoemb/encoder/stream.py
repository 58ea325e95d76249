"""Embed a whole catalogue block by block: memory is one block, whatever the number of items."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from taoemb.encoder.bulk import bulk_embedder
from taoemb.encoder.model import Encoder
from taoemb.progress import Progress

if TYPE_CHECKING:
    from taoemb.data.dataset import Catalogue


def stream_items(
    encoder: Encoder, catalogue: "Catalogue", size: int = 16_384, progress: Progress | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row numbers (n,), vectors (n, D) float32) of all items in catalogue order, at most `size` at a time."""
    embed = bulk_embedder(encoder, "item", len(catalogue))
    for rows in catalogue.batches(size):
        yield rows, embed(catalogue.texts(rows, encoder.item_template), progress)
