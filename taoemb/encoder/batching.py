"""Length-sorted batches: texts of like length share a forward pass, so that little of it is padding.

Nothing is ever padded to a fixed maximum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

_MOST_PARTS = 8


@dataclass(frozen=True)
class TokenBatch:
    """One forward pass; the rows are right-padded."""

    input_ids_NT: Tensor
    """int64 token ids."""
    mask_NT: Tensor
    """int64, 1 on real tokens."""
    order: np.ndarray
    """`order[i]` is the position of row i in the caller's list of texts."""


def bucket_by_tokens(lengths: Sequence[int] | np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """Cut texts into batches of at most `tokens_per_batch` padded tokens, longest first; each index comes once.

    A text that is longer than the budget gets a batch of its own.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    buckets: list[np.ndarray] = []
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        stop = start + max(tokens_per_batch // longest, 1)
        buckets.append(order[start:stop])
        start = stop
    return buckets


def bucket_by_count(lengths: Sequence[int] | np.ndarray, buckets: int) -> list[np.ndarray]:
    """Cut texts into exactly min(`buckets`, number of texts) parts, shortest first, with the fewest padded tokens.

    The number of parts depends on the number of texts alone, never on their lengths: ranks that hold equally many texts
    make equally many forward passes, which ZeRO-3 and gathers need.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    parts = min(buckets, len(order))
    if parts == 0:
        return []
    cuts = _best_cuts(lengths[order], parts)
    return np.split(order, cuts)


def bucket_by_cost(lengths: Sequence[int] | np.ndarray, call_tokens: int) -> list[np.ndarray]:
    """Cut a few texts into the parts (at most eight) that cost least: padded tokens, and `call_tokens` more a part.

    For online passes of some dozens of texts, where one part would be mostly padding and many would be mostly calls.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    candidates = [bucket_by_count(lengths, parts) for parts in range(1, min(len(lengths), _MOST_PARTS) + 1)]
    return min(candidates, key=lambda parts: sum(call_tokens + len(part) * int(lengths[part].max()) for part in parts))


def _best_cuts(sorted_lengths: np.ndarray, parts: int) -> np.ndarray:
    """Positions at which to cut ascending lengths into `parts` non-empty runs of least total rows × longest row."""
    n = len(sorted_lengths)
    # Only the ends of runs of equal length are worth cutting at; a few even cuts make up the count when runs are few.
    ends = np.flatnonzero(np.diff(sorted_lengths)) + 1
    even = np.arange(1, parts) * n // parts
    places = np.unique(np.concatenate([[0], ends, even, [n]]))
    longest = sorted_lengths[places[1:] - 1]
    cost = (places[None, 1:] - places[:-1, None]) * longest[None, :].astype(np.float64)
    cost[places[None, 1:] <= places[:-1, None]] = np.inf  # cost[i, j]: a part from places[i] to places[j + 1]
    best = cost[0]  # best[j]: the first `part` parts end at places[j + 1]
    came: list[np.ndarray] = []
    for _ in range(parts - 1):
        total = best[:-1, None] + cost[1:]
        came.append(np.argmin(total, axis=0))
        best = np.min(total, axis=0)
    cuts: list[int] = []
    j = len(places) - 2
    for choice in reversed(came):
        j = int(choice[j])
        cuts.append(int(places[j + 1]))
    return np.array(cuts[::-1], dtype=np.int64)


class TokenTable:
    """Tokenised texts held flat, from which padded batches are gathered without Python work per token."""

    def __init__(self, rows: Sequence[Sequence[int]], pad_id: int) -> None:
        rows = [row or [pad_id] for row in rows]  # a text without any token is read as one padding token
        self.lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self._flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(self._starts[-1]))
        self._pad_id = pad_id

    def batch(self, order: np.ndarray) -> TokenBatch:
        """The texts at `order`, right-padded to the longest of them."""
        lengths = self.lengths[order]
        columns = np.arange(int(lengths.max()))
        mask = columns[None, :] < lengths[:, None]
        at = np.minimum(self._starts[order][:, None] + columns[None, :], len(self._flat) - 1)
        ids = np.where(mask, self._flat[at], self._pad_id)
        return TokenBatch(torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)), order)
