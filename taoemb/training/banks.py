"""The catalogue embedded before training, kept between runs if wished: a sweep from one release embeds it once."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch

from taoemb.encoder.bulk import bulk_embedder
from taoemb.encoder.manifest import sha256_file
from taoemb.encoder.model import Encoder
from taoemb.encoder.release import Release
from taoemb.retrieval.bank import ItemBank
from taoemb.training.context import Context

CHUNK = 4096  # texts embedded at once outside the gradient


def new_bank(context: Context, encoder: Encoder) -> ItemBank:
    """An empty bank for the catalogue, sharded over the ranks."""
    ranks = context.ranks
    size = (len(context.data.items), encoder.spec.dimension)
    return ItemBank(*size, rank=ranks.rank, world_size=ranks.world_size, device=ranks.device)


def fill_bank(bank: ItemBank, context: Context, encoder: Encoder) -> None:
    """Embed the catalogue into the bank with `encoder` as it is."""
    encoder.to(context.ranks.device)
    embed = bulk_embedder(encoder, "item", bank.n_items)  # the whole catalogue's size: all ranks choose alike
    bank.fill(lambda rows: torch.from_numpy(embed(context.item_texts(rows, encoder), None)), batch=CHUNK)


def fill_by_release(bank: ItemBank, context: Context, encoder: Encoder, release: Release) -> None:
    """Fill the bank with the item encoder of `release`: from `engine.banks` when it was embedded before, else anew.

    `encoder` is that item encoder as the settings load it; a bank that is made anew is kept for the next run.
    """
    kept = _kept(context, encoder, release)
    if kept is None:
        fill_bank(bank, context, encoder)
    elif any(kept.glob(f"bank-{bank.rank:05d}-of-*.safetensors")):
        bank.load(kept)
    else:
        fill_bank(bank, context, encoder)
        bank.save(kept)


def _kept(context: Context, encoder: Encoder, release: Release) -> Path | None:
    """The folder of this very bank: of these items, this encoder, this arithmetic and this number of ranks."""
    root = context.config.engine.banks
    if root is None:
        return None
    decides = {
        "items": sha256_file(context.arguments.data / "items.parquet"),
        "encoder": release.manifest.item_encoder_digest,
        "spec": asdict(encoder.spec),
        "precision": encoder.precision,
        "backend": encoder.bulk_backend,
        "ranks": context.ranks.world_size,
    }
    return root / hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]
