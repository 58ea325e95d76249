"""Supervised fine-tuning: InfoNCE over in-batch and global random negatives (paper section 2).

B is the batch of all ranks, gathered with gradient; G is drawn from the whole catalogue, so that items which were
never clicked train too. Duplicates of a positive and other known positives of a query are not negatives.

Run it as `python -m taoemb.training.sft --data DIR --out DIR`, alone, under torchrun or the DeepSpeed launcher.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taoemb.config import SFTConfig
from taoemb.encoder.model import Encoder
from taoemb.encoder.release import Release, save_release
from taoemb.errors import InputError
from taoemb.training.context import Batches, Context, starting_encoder
from taoemb.training.distributed import check_divisible, gather_with_gradient, mean_over_ranks
from taoemb.training.engine import Engine
from taoemb.training.losses import info_nce, mean_pairwise_cosine
from taoemb.training.sampling import random_items
from taoemb.training.soup import blend
from taoemb.training.supervised import Supervised
from taoemb.training.timing import Stopwatch


class SFT(Supervised):
    """The supervised objective; `negatives` adds columns to the candidates (hard negatives, in the baseline)."""

    name = "sft"
    _config: SFTConfig

    def __init__(self, context: Context, config: SFTConfig, encoder: Encoder) -> None:
        self._context, self._config, self._encoder = context, config, encoder
        self.steps = config.steps
        self._positives = context.positives()
        self._false = context.false_negatives(self._positives)
        self._batches = Batches(context, self._positives.query_rows, config.queries, f"{self.name}.queries")
        parts = context.ranks.world_size * context.config.engine.gradient_accumulation
        check_divisible(config.random_negatives, parts, f"{self.name}.random_negatives")
        self._dimensions = _matryoshka(encoder, context.config.encoder.matryoshka)
        self.engine = Engine(encoder, context.config.engine, config.optim, config.steps, context.ranks)

    def negatives(self, query_rows: np.ndarray, step: int) -> np.ndarray:
        """Item rows beside the positives, in global order: here the random items G. Shape (any,)."""
        return random_items(len(self._context.data.items), self._config.random_negatives, self._context.seed, step)

    def step(self, step: int) -> dict[str, float]:
        """One update on the global batch of `step`."""
        watch = Stopwatch()
        query_rows = self._batches.all_ranks(step)
        positive_rows = self._positives.draw(query_rows, self._context.seed, step)
        negative_rows = self.negatives(query_rows, step)
        losses, tokens = [], 0
        for part in range(self._batches.parts):
            queries, positives, negatives = (
                self._batches.micro(rows, part) for rows in (query_rows, positive_rows, negative_rows)
            )
            loss, used, cosines = self._micro_batch(queries, positives, negatives, watch)
            with watch("backward"):
                self.engine.backward(loss)
            losses.append(float(loss.detach()))
            tokens += used
        with watch("optimiser"):
            logged = self.engine.step(step)
        means = mean_over_ranks({"loss": float(np.mean(losses)), **cosines}, self._context.ranks)
        metrics = {**means, **logged, **watch.seconds()}
        return metrics | {"tokens_per_s": tokens / watch.total()}

    def _micro_batch(
        self, query_rows: np.ndarray, positive_rows: np.ndarray, negative_rows: np.ndarray, watch: Stopwatch
    ) -> tuple[Tensor, int, dict[str, float]]:
        """Loss of this rank's queries against the candidates of all ranks; tokens of all ranks' estimate; cosines."""
        ranks, buckets = self._context.ranks, self._context.config.engine.length_buckets
        own_Q = ranks.share(query_rows)
        own_items = np.concatenate([ranks.share(positive_rows), ranks.share(negative_rows)])
        with watch("tokenise"):
            item_texts = self._context.item_texts(own_items, self._encoder)
            batches = self._encoder.tokenize_both(self._context.query_texts(own_Q), item_texts, buckets)
        with watch("forward"):
            vectors_QD, items_ND = self.engine.embed(batches).split([len(own_Q), len(own_items)])
            candidates_MD = torch.cat(
                [gather_with_gradient(part) for part in items_ND.split([len(own_Q), len(items_ND) - len(own_Q)])]
            )
        candidate_rows = np.concatenate([positive_rows, negative_rows])
        negative_QM = torch.from_numpy(~self._false.mask(own_Q, candidate_rows)).to(ranks.device)
        positive_Q = torch.arange(len(own_Q), device=ranks.device) + ranks.rank * len(own_Q)
        with watch("loss"):
            loss = torch.stack(
                [
                    info_nce(_scores(vectors_QD, candidates_MD, d), positive_Q, negative_QM, self._config.tau).mean()
                    for d in self._dimensions
                ]
            ).mean()
        cosines = {
            "cosine_queries": mean_pairwise_cosine(vectors_QD.detach()),
            "cosine_items": mean_pairwise_cosine(candidates_MD.detach()),
        }
        tokens = sum(int(batch.mask_NT.sum()) for batch in batches)
        return loss, tokens * ranks.world_size, cosines

    def save_release(self, weights: Mapping[str, Tensor], training: Mapping[str, Any]) -> Release:
        """A release with one encoder for queries and items: `soup` blends its weights with the starting ones."""
        if self._config.soup < 1:
            weights = blend(starting_encoder(self._context).state_dict(), weights, self._config.soup)
        return save_release(
            self._context.folder.release,
            self._encoder,
            parent=self._context.parent,
            training=training,
            state_dict=weights,
        )


def _scores(queries_QD: Tensor, candidates_MD: Tensor, dimension: int) -> Tensor:
    """Cosine of the vectors cut to their first `dimension` entries (Matryoshka). Shape (Q, M)."""
    if dimension == queries_QD.shape[1]:
        return queries_QD @ candidates_MD.T
    cut = torch.nn.functional.normalize
    return cut(queries_QD[:, :dimension], dim=1) @ cut(candidates_MD[:, :dimension], dim=1).T


def _matryoshka(encoder: Encoder, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    full = encoder.spec.dimension
    if any(d >= full for d in dimensions):
        raise InputError(f"encoder.matryoshka: {max(dimensions)} is not below the encoder's dimension {full}")
    return (full, *dimensions)


def build(context: Context) -> SFT:
    """The objective from the settings."""
    return SFT(context, context.config.sft, starting_encoder(context))


if __name__ == "__main__":
    from taoemb.training.entry import main

    main("sft")
