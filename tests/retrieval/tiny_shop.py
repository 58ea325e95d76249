"""A small shop as a dataset folder."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taoemb.data.schemas import ITEMS

KINDS = ("sofa", "lamp", "rug", "chair", "table", "shelf")
COLOURS = ("red", "blue", "green", "white", "black")
STUFF = ("oak", "steel", "wool", "glass", "linen", "cork")


def shop(count: int) -> list[dict]:
    """Items whose titles all differ."""
    return [
        {
            "item_id": f"i{row}",
            "title": f"{COLOURS[row % 5]} {STUFF[row // 5 % 6]} {KINDS[row // 30 % 6]} {row}",
            "brand": "acme" if row % 3 else None,
            "category": f"home/{KINDS[row // 30 % 6]}s",
            "price": None if row % 7 == 0 else float(row),
            "signal_rating": row % 5 / 4,
        }
        for row in range(count)
    ]


def write_items(folder: Path, items: list[dict]) -> Path:
    """A dataset folder with just its items.parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = ITEMS.append(pa.field("signal_rating", pa.float32()))
    pq.write_table(pa.Table.from_pylist(items, schema=schema), folder / "items.parquet")
    return folder
