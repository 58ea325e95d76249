"""Write the sizing table of docs/jobs.md from its own arithmetic; `--check` fails when the page is stale."""

import sys
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from taoemb.config import load_config

PAGE = Path(__file__).parents[1] / "docs" / "jobs.md"
BEGIN, END = "<!-- sizing: python scripts/sizing_table.py -->\n", "<!-- end of sizing -->\n"

FLOPS = 989e12 * 0.35  # H100 SXM, bf16 dense, of which a well-filled batch gets about a third
GPU_GB = 60.0  # of 80, for the vectors of one rank
ITEM_TOKENS = 40
JUDGE_PARAMETERS, JUDGE_TOKENS = 8e9, 150  # tokens of a pair beyond the rubric, which the prefix cache holds
LINK_BYTES = 4
CATALOGUES = (100_000, 1_000_000, 10_000_000, 100_000_000)


@dataclass(frozen=True)
class Model:
    """An encoder; `layers` are the parameters that a token passes, without word embeddings."""

    name: str
    layers: float
    parameters: float
    dimension: int


MODELS = (
    Model("MiniLM-L6", 10.6e6, 22.7e6, 384),
    Model("BERT-base", 85e6, 110e6, 768),
    Model("0.6B decoder", 0.44e9, 0.6e9, 1024),
)


def embed_hours(model: Model, items: float) -> float:
    """GPU hours: 2 FLOP a parameter and token."""
    return items * ITEM_TOKENS * 2 * model.layers / FLOPS / 3600


def row(model: Model, items: int) -> str:
    """One line of the table."""
    settings = load_config()
    vectors = items * model.dimension * 4 / 1e9
    links = items * 2 * settings.milvus.hnsw_m * LINK_BYTES / 1e9
    state = model.parameters * 16 / 1e9
    gpus = ceil(vectors / (GPU_GB - state))
    both = settings.grpo.steps / settings.grpo.refresh * embed_hours(model, items)
    shards = ceil(items / settings.milvus.bulk_rows)
    sizes = (_short(vectors), _short(vectors + links), gpus, _short(embed_hours(model, items)), shards, _short(both))
    return "| " + " | ".join(map(str, (f"{items:,}", model.name, *sizes))) + " |"


def judge_hours() -> float:
    """GPU hours of an LLM judge for one GRPO run that finds nothing in its cache."""
    grpo = load_config().grpo
    return grpo.steps * grpo.queries * grpo.k * JUDGE_TOKENS * 2 * JUDGE_PARAMETERS / FLOPS / 3600


def table() -> str:
    """The part of the page between its two marks."""
    grpo = load_config().grpo
    head = (
        "| items | encoder | vectors, GB | Milvus HNSW, GB | GPUs for the bank | embed once, GPU h | shards "
        "| refreshes of `towers: both`, GPU h |\n|---:|---|---:|---:|---:|---:|---:|---:|\n"
    )
    rows = "\n".join(row(model, items) for items in CATALOGUES for model in MODELS)
    judge = (
        f"\n\nThe judge of one run: {grpo.steps} steps × {grpo.queries} queries × {grpo.k} items = "
        f"{grpo.steps * grpo.queries * grpo.k:,} pairs; an 8 B LLM needs {judge_hours():.1f} GPU h for them, "
        f"whatever the catalogue.\n"
    )
    return head + rows + judge


def _short(value: float) -> str:
    return "< 0.01" if value < 0.01 else f"{value:.2g}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    text = before + BEGIN + table() + END + rest.partition(END)[2]
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == text else f"{PAGE} is stale: run this script")
    PAGE.write_text(text, encoding="utf-8")
