"""Groups on their way through training: retrieved by one policy, judged meanwhile, trained by a later one."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from taoemb.config import GRPOConfig
from taoemb.training.context import Context
from taoemb.training.distributed import Ranks, gather_rows
from taoemb.training.rewarding import Scored
from taoemb.training.sampling import random_items
from taoemb.training.towers import Towers


@dataclass(frozen=True)
class Group:
    """This rank's groups of one step: what was retrieved, and the scores of the policies that clip and anchor them."""

    step: int
    query_rows: np.ndarray  # (Q,)
    rows_QK: np.ndarray
    old_scores_QK: Tensor | None  # by the policy that retrieved; None when that is the one that trains
    reference_scores_QK: Tensor  # by the frozen starting policy
    scored: Future[Scored]


def pack(groups: list[Group], ranks: Ranks) -> list[dict[str, Any]]:
    """Groups of all ranks, for a checkpoint (all ranks call); rewards are not kept: the judge's cache has them."""

    def whole(array: np.ndarray) -> np.ndarray:
        return gather_rows(torch.from_numpy(array).to(ranks.device)).cpu().numpy()

    return [
        {
            "step": group.step,
            "query_rows": whole(group.query_rows),
            "rows_QK": whole(group.rows_QK),
            "old_scores_QK": None if group.old_scores_QK is None else gather_rows(group.old_scores_QK).cpu(),
            "reference_scores_QK": gather_rows(group.reference_scores_QK).cpu(),
        }
        for group in groups
    ]


class Submit(Protocol):
    """Starts the scoring of groups."""

    def __call__(self, query_rows: np.ndarray, rows_QK: np.ndarray) -> Future[Scored]: ...


def unpack(packed: list[dict[str, Any]], context: Context, submit: Submit) -> list[Group]:
    """This rank's part of what `pack` kept, handed to the judge again."""
    share, groups = context.ranks.share, []
    for entry in packed:
        query_rows, rows_QK = share(entry["query_rows"]), share(entry["rows_QK"])
        reference_QK = share(entry["reference_scores_QK"]).to(context.ranks.device)
        kept = entry["old_scores_QK"]
        old_QK = None if kept is None else share(kept).to(context.ranks.device)
        groups.append(Group(entry["step"], query_rows, rows_QK, old_QK, reference_QK, submit(query_rows, rows_QK)))
    return groups


class Retriever(Protocol):
    """Takes the Top-K of each query by the current policy."""

    def topk(self, vectors_QD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores (Q, k) and item rows (Q, k)."""


class BatchPool:
    """The paper's practice: Top-K among the positives of all ranks' queries and some random items, K ≪ pool."""

    def __init__(
        self, towers: Towers, positives_M: np.ndarray, context: Context, config: GRPOConfig, step: int
    ) -> None:
        randoms = random_items(len(context.data.items), config.batch_items, context.seed, step)
        self._rows = np.unique(np.concatenate([positives_M[positives_M >= 0], randoms]))
        self._vectors_MD = towers.items_now(self._rows)

    def topk(self, vectors_QD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Top-K of the pool; rows are catalogue rows."""
        scores_QK, columns_QK = (vectors_QD @ self._vectors_MD.T).topk(min(k, len(self._rows)), dim=1)
        return scores_QK, torch.from_numpy(self._rows).to(columns_QK.device)[columns_QK]


def group_scores(queries_QD: Tensor, groups_QKD: Tensor) -> Tensor:
    """Cosine of each query with the items of its group: the one arithmetic for old and new policy. (Q, K) float32."""
    return torch.einsum("qd,qkd->qk", queries_QD.float(), groups_QKD.float())
