"""The ways to train against the model's own Top-K: the query tower over frozen items, or both towers (the paper).

`query`: items are embedded once and stay; only the query encoder moves, so a new release can keep its parent's
collection. `both`: one shared encoder moves; the candidates of a group are embedded again with gradient, and the bank
that retrieval uses is refreshed every so often. `alternating`: as `both`, but a step moves the encoder through its
queries or through its items, in turn, so that half of the steps need no gradient of items.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from taoemb.encoder.batching import TokenBatch
from taoemb.encoder.model import Encoder
from taoemb.encoder.release import Release
from taoemb.retrieval.bank import ItemBank
from taoemb.training.attention import choose_attention
from taoemb.training.banks import CHUNK, fill_by_release, new_bank
from taoemb.training.context import Context, starting_encoder
from taoemb.training.distributed import gather_rows, gather_with_gradient
from taoemb.training.engine import Engine


@dataclass(frozen=True)
class Candidates:
    """Item vectors that a micro-batch scores its queries against."""

    groups_QKD: Tensor
    positives_MD: Tensor  # a positive of each query of all ranks, rank after rank


class Towers(Protocol):
    """Vectors of queries and items under the current policy."""

    def begin(self, step: int) -> None:
        """Say which step is trained next."""

    def queries(self, rows: np.ndarray) -> Tensor:
        """Query vectors (Q, D) with gradient."""

    def queries_now(self, rows: np.ndarray) -> Tensor:
        """Query vectors (Q, D) without gradient."""

    def items_now(self, rows: np.ndarray) -> Tensor:
        """Item vectors (N, D) without gradient; all ranks ask for the same rows."""

    def groups_now(self, rows_QK: np.ndarray) -> Tensor:
        """Group vectors (Q, K, D) without gradient; each rank asks for its own."""

    def candidates(self, rows_QK: np.ndarray, positives_M: np.ndarray) -> Candidates:
        """Group and positive vectors, with gradient where the tower moves; `positives_M` spans all ranks."""

    def refresh(self) -> None:
        """Embed the whole catalogue with the current item encoder."""


def start(context: Context, parent: Release, which: str) -> tuple[Encoder, ItemBank]:
    """The encoder that will be trained from `parent`, and the catalogue embedded before training."""
    shared = which != "query"
    if shared:
        encoder = starting_encoder(context)
    else:
        encoder = parent.query_encoder(config=context.config.encoder)
        encoder = choose_attention(encoder, context.config, context.ranks)
    bank = new_bank(context, encoder)
    fill_by_release(bank, context, encoder if shared else parent.item_encoder(config=context.config.encoder), parent)
    return encoder, bank


class _Queries:
    def __init__(self, context: Context, encoder: Encoder, engine: Engine) -> None:
        self._context, self._encoder, self._engine = context, encoder, engine
        self._buckets = context.config.engine.length_buckets

    def begin(self, step: int) -> None:
        """Every step is alike."""

    def queries(self, rows: np.ndarray) -> Tensor:
        return self._engine.embed(self._tokens(rows))

    def queries_now(self, rows: np.ndarray) -> Tensor:
        return self._engine.embed_without_gradient(self._tokens(rows))

    def _tokens(self, rows: np.ndarray) -> list[TokenBatch]:
        return self._encoder.tokenize(self._context.query_texts(rows), "query", self._buckets)


class QueryTower(_Queries):
    """The query encoder moves; the items of `bank` are frozen."""

    def __init__(self, context: Context, encoder: Encoder, engine: Engine, bank: ItemBank) -> None:
        super().__init__(context, encoder, engine)
        self.bank = bank

    def items_now(self, rows: np.ndarray) -> Tensor:
        """Frozen vectors from the bank."""
        return self.bank.vectors(torch.from_numpy(rows))

    def groups_now(self, rows_QK: np.ndarray) -> Tensor:
        """Frozen vectors from the bank."""
        return self.bank.vectors(torch.from_numpy(rows_QK))

    def candidates(self, rows_QK: np.ndarray, positives_M: np.ndarray) -> Candidates:
        """Frozen vectors from the bank; no gradient flows to items."""
        return Candidates(self.groups_now(rows_QK), self.items_now(positives_M))

    def refresh(self) -> None:
        """The bank never ages: its encoder is frozen."""


class SharedTowers(_Queries):
    """One encoder for queries and items, both with gradient; `bank` follows it at each refresh."""

    def __init__(self, context: Context, encoder: Encoder, engine: Engine, bank: ItemBank) -> None:
        super().__init__(context, encoder, engine)
        self.bank = bank

    def items_now(self, rows: np.ndarray) -> Tensor:
        """Vectors under the current weights: each rank embeds its share."""
        ranks = self._context.ranks
        padded = np.resize(rows, -(-len(rows) // ranks.world_size) * ranks.world_size)
        local = self._engine.embed_without_gradient(self._item_tokens(ranks.share(padded)))
        return gather_rows(local)[: len(rows)]

    def groups_now(self, rows_QK: np.ndarray) -> Tensor:
        """Fresh vectors under the current weights, each item once: the bank may be stale."""
        unique, where = np.unique(rows_QK, return_inverse=True)
        vectors = self._engine.embed_without_gradient(self._item_tokens(unique))
        return vectors[torch.from_numpy(where.reshape(rows_QK.shape)).to(vectors.device)]

    def candidates(self, rows_QK: np.ndarray, positives_M: np.ndarray) -> Candidates:
        """Group items once each, and this rank's positives, in one forward pass with gradient."""
        own_positives = self._context.ranks.share(positives_M)
        unique, where = np.unique(rows_QK, return_inverse=True)
        vectors = self._engine.embed(self._item_tokens(np.concatenate([unique, own_positives])))
        groups_QKD = vectors[torch.from_numpy(where.reshape(rows_QK.shape)).to(vectors.device)]
        return Candidates(groups_QKD, gather_with_gradient(vectors[len(unique) :]))

    def refresh(self) -> None:
        """Re-embed the whole catalogue with the current weights."""
        self.bank.fill(
            lambda rows: self._engine.embed_without_gradient(self._bulk_tokens(rows)), batch=CHUNK, show=False
        )

    def _item_tokens(self, rows: np.ndarray) -> list[TokenBatch]:
        return self._encoder.tokenize(self._context.item_texts(rows, self._encoder), "item", self._buckets)

    def _bulk_tokens(self, rows: np.ndarray) -> list[TokenBatch]:
        return self._encoder.tokenize(self._context.item_texts(rows, self._encoder), "item")


class AlternatingTowers(SharedTowers):
    """One shared encoder; the gradient flows through queries in even steps and through items in odd ones."""

    def begin(self, step: int) -> None:
        self._moves_items = step % 2 == 1

    def queries(self, rows: np.ndarray) -> Tensor:
        """With gradient in even steps."""
        return self.queries_now(rows) if self._moves_items else super().queries(rows)

    def candidates(self, rows_QK: np.ndarray, positives_M: np.ndarray) -> Candidates:
        """With gradient in odd steps; fresh vectors in all."""
        if self._moves_items:
            return super().candidates(rows_QK, positives_M)
        return Candidates(self.groups_now(rows_QK), self.items_now(positives_M))


TOWERS: dict[str, Callable[..., Towers]] = {"query": QueryTower, "both": SharedTowers, "alternating": AlternatingTowers}


def open_towers(context: Context, which: str, engine: Engine, encoder: Encoder, bank: ItemBank) -> Towers:
    """The towers that the setting asks for."""
    return TOWERS[which](context, encoder, engine, bank)
