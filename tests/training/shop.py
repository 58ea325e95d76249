"""A very small shop and a rule judge, so that training tests run in seconds."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taoemb.data.schemas import JUDGMENTS, RULE_SOURCE
from tests.word_bert import word_bert

TYPES = ("sofa", "lamp", "kettle", "jacket", "phone", "drill", "tent", "desk")
COLOURS = ("red", "blue", "green", "black", "white")
BRANDS = ("acme", "borealis", "corvo", "delta")


def write_shop(folder: Path, seed: int = 0) -> Path:
    """160 items (type × colour × brand), a query for each type and colour, each pair of the two a positive."""
    folder.mkdir(parents=True, exist_ok=True)
    items = list(itertools.product(TYPES, COLOURS, BRANDS))
    rng = np.random.default_rng(seed)
    table = {
        "item_id": [f"i{n}" for n in range(len(items))],
        "title": [f"{brand} {colour} {kind} model {n}" for n, (kind, colour, brand) in enumerate(items)],
        "category": [kind for kind, _, _ in items],
        "brand": [brand for _, _, brand in items],
        "signal_sales": rng.gamma(2.0, 10.0, len(items)),
    }
    pq.write_table(pa.table(table), folder / "items.parquet")
    asked = list(itertools.product(TYPES, COLOURS))
    slices = pa.array([["plain"]] * len(asked), pa.list_(pa.string()))
    texts = [f"{colour} {kind}" for kind, colour in asked]
    ids = [f"q{n}" for n in range(len(asked))]
    pq.write_table(pa.table({"query_id": ids, "text": texts, "slices": slices}), folder / "queries.parquet")
    pairs = [(q, n) for q, a in enumerate(asked) for n, (kind, colour, _) in enumerate(items) if (kind, colour) == a]
    pq.write_table(
        pa.table(
            {
                "query_id": [ids[q] for q, _ in pairs],
                "item_id": [f"i{n}" for _, n in pairs],
                "weight": pa.array([1.0] * len(pairs), pa.float32()),
            }
        ),
        folder / "pairs.parquet",
    )
    return folder


def write_grades(folder: Path) -> Path:
    """Grades of 30 items a query: right ones by clerks, and wrong ones by rules of the items next to them."""
    titles = pq.read_table(folder / "items.parquet")["title"].to_pylist()
    rng, rows = np.random.default_rng(0), []
    for number, text in enumerate(pq.read_table(folder / "queries.parquet")["text"].to_pylist()):
        for item in rng.choice(len(titles), 30, replace=False).tolist():
            grade = rule_grade(text, titles[item])
            rows.append({"query_id": f"q{number}", "item_id": f"i{item}", "grade": grade, "source": "clerks"})
            rows.append(rows[-1] | {"item_id": f"i{(item + 1) % 160}", "grade": 5 - grade, "source": RULE_SOURCE})
    pq.write_table(pa.Table.from_pylist(rows, JUDGMENTS), folder / "judgments.parquet")
    return folder


def rule_grade(query: str, title: str) -> int:
    """4 type and colour, 3 type, 2 colour, 1 neither."""
    words = set(title.split())
    colour, kind = query.split()
    return 4 if {colour, kind} <= words else 3 if kind in words else 2 if colour in words else 1


def tiny_encoder(folder: Path) -> Path:
    """A random two-layer BERT that knows the shop's words, saved as a Hugging Face folder."""
    words = [*TYPES, *COLOURS, *BRANDS, "model", *map(str, range(160))]
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return word_bert(folder, words, seed=3, initializer_range=0.2, **shape)
