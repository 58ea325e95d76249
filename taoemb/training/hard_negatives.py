"""Baseline: SFT with hard negatives mined offline by the encoder that training starts from.

What most teams run today, on the same engine as Retrieval-GRPO so that the two compare. Mining takes each query's
exact Top-K over the catalogue and drops known positives and items that score almost like the positive (they are
often unlabelled positives). The time that mining takes is logged.
"""

import time
from typing import Any

import numpy as np
import torch

from taoemb.config import HardNegativesConfig
from taoemb.encoder.model import Encoder
from taoemb.training.banks import fill_bank, fill_by_release, new_bank
from taoemb.training.context import Context, starting_encoder
from taoemb.training.sampling import check_some, random_items
from taoemb.training.sft import SFT

_MINED = 3  # stream of random numbers


class HardNegatives(SFT):
    """InfoNCE over in-batch, random and mined negatives."""

    name = "hard_negatives"

    def __init__(self, context: Context, config: HardNegativesConfig, encoder: Encoder) -> None:
        started = time.monotonic()
        self._mined = mine(context, config, encoder)
        self._mining_s = time.monotonic() - started
        self._hard = config
        super().__init__(context, config, encoder)

    def negatives(self, query_rows: np.ndarray, step: int) -> np.ndarray:
        """`negatives` mined items for each query, then the random items; both laid out rank by rank."""
        seed = self._context.seed
        randoms = random_items(len(self._context.data.items), self._config.random_negatives, seed, step)
        draw = np.random.default_rng([seed, step, _MINED])
        mined = [self._draw_mined(int(row), draw) for row in query_rows]
        parts = self._context.ranks.world_size * self._batches.parts
        blocks = [np.array(mined).reshape(parts, -1), randoms.reshape(parts, -1)]
        return np.concatenate(blocks, axis=1).reshape(-1)

    def _draw_mined(self, query_row: int, draw: np.random.Generator) -> np.ndarray:
        mined = self._mined[query_row]
        if len(mined) == 0:
            return draw.integers(0, len(self._context.data.items), self._hard.negatives)
        return draw.choice(mined, self._hard.negatives, replace=len(mined) < self._hard.negatives)

    def facts(self) -> dict[str, Any]:
        """What the manifest says: also how long mining took."""
        return super().facts() | {"mining_s": round(self._mining_s, 1)}


def mine(context: Context, config: HardNegativesConfig, encoder: Encoder) -> dict[int, np.ndarray]:
    """Hard negatives of every query that has a positive: query row → item rows, hardest first (all ranks call)."""
    positives = context.positives()
    check_some(positives.query_rows)
    false = context.false_negatives(positives)
    bank = new_bank(context, encoder)
    if context.parent is None:
        fill_bank(bank, context, encoder)
    else:
        fill_by_release(bank, context, encoder, context.parent)
    mined: dict[int, np.ndarray] = {}
    for rows in np.array_split(positives.query_rows, max(1, len(positives.query_rows) // 512)):
        vectors_QD = encoder.encode_tensor(context.query_texts(rows), "query")
        scores_QK, items_QK = (t.cpu().numpy() for t in bank.topk(vectors_QD, min(config.depth, bank.n_items)))
        positive_rows = positives.draw(rows, context.seed, 0)
        positive_Q = (vectors_QD * bank.vectors(torch.from_numpy(positive_rows))).sum(dim=1).cpu().numpy()
        usable_QK = ~false.mask(rows, items_QK) & (scores_QK <= config.max_score_ratio * positive_Q[:, None])
        mined |= {int(row): items_QK[i][usable_QK[i]] for i, row in enumerate(rows)}
    return mined


def build(context: Context) -> HardNegatives:
    """The objective from the settings."""
    return HardNegatives(context, context.config.hard_negatives, starting_encoder(context))


if __name__ == "__main__":
    from taoemb.training.entry import main

    main("hard_negatives")
