"""A release's query encoder as the server runs it: one interface over whatever computes, and the texts around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from taoemb.encoder.batching import TokenBatch
from taoemb.encoder.model import Encoder

Backend = Callable[[TokenBatch], np.ndarray]
"""A forward pass: the normalised vectors (N, D) float32 of a batch, in its own order. Called from one thread."""


@dataclass(frozen=True)
class Embedded:
    """The vectors of N texts and what they cost."""

    vectors_ND: np.ndarray
    """float32, L2-normalised."""
    tokens_N: np.ndarray
    """Tokens of each text, as the encoder read it: inside the query template, cut to the release's limit."""
    padding: int
    """Padding tokens that went through the model with them."""

    def part(self, start: int, stop: int) -> "Embedded":
        """Some of the texts; the padding stays with the whole."""
        return Embedded(self.vectors_ND[start:stop], self.tokens_N[start:stop], 0)


@dataclass(frozen=True)
class QueryModel:
    """A loaded and checked release."""

    digest: str
    dimension: int
    encoder: Encoder
    """Reads the texts; its weights are gone when another backend computes."""
    backend: Backend
    min_cosine: float
    """Lowest cosine with torch's fp32 vectors that was seen on the check texts."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of raw queries; texts of like length share a forward pass."""
        return embed(self.encoder, self.backend, texts)


def embed(encoder: Encoder, backend: Backend, texts: Sequence[str]) -> Embedded:
    """Encode raw queries as `encoder` reads them and `backend` computes them."""
    vectors_ND = np.empty((len(texts), encoder.spec.dimension), dtype=np.float32)
    tokens_N = np.zeros(len(texts), dtype=np.int64)
    padded = 0
    for batch in encoder.tokenize_online(texts, "query"):
        vectors_ND[batch.order] = backend(batch)
        tokens_N[batch.order] = batch.mask_NT.sum(1).numpy()
        padded += batch.mask_NT.numel()
    return Embedded(vectors_ND, tokens_N, padded - int(tokens_N.sum()))
