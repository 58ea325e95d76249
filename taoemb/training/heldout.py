"""What is watched during GRPO without training on it: Top-K churn of a few probe queries, and a held-out judge."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from taoemb.config import GRPOConfig
from taoemb.errors import InputError
from taoemb.judge.client import JudgeClient, JudgeUnavailable
from taoemb.retrieval.bank import ItemBank
from taoemb.training.context import Context
from taoemb.training.distributed import Ranks, sum_over_ranks
from taoemb.training.towers import Towers

DEPTH = 10  # items a query that the held-out judge grades


def held_out_rows(context: Context, config: GRPOConfig) -> np.ndarray:
    """Query rows kept out of training for the held-out judge: a seeded draw, equal on every rank."""
    world, n = context.ranks.world_size, len(context.data.queries)
    count = max(1, config.heldout_queries // world) * world
    if count * 2 > n:
        raise InputError(f"grpo.heldout_queries is {count}, more than half of the {n} queries; lower it or add queries")
    return np.sort(np.random.default_rng([context.seed, 4]).choice(n, count, replace=False))


class HeldOut:
    """Grades the policy's Top-10 of held-out queries by a judge that gives no reward."""

    def __init__(
        self, context: Context, judge: JudgeClient, towers: Towers, bank: ItemBank, query_rows: np.ndarray
    ) -> None:
        self._data, self._ranks = context.data, context.ranks
        self._judge, self._towers, self._bank = judge, towers, bank
        self._rows = context.ranks.share(query_rows)

    def check(self) -> dict[str, float]:
        """Mean relevance by the held-out judge over all ranks; nothing while that judge is away."""
        _, items = self._bank.topk(self._towers.queries_now(self._rows), min(DEPTH, self._bank.n_items))
        rows_QK = items.cpu().numpy()
        texts = [self._data.queries.texts[row] for row in self._rows for _ in range(rows_QK.shape[1])]
        try:
            relevance = self._judge.grade(texts, self._data.items.records(rows_QK.reshape(-1))).relevance
        except JudgeUnavailable:
            relevance = np.full(rows_QK.size, np.nan, dtype=np.float32)
        answered = ~np.isnan(relevance)
        sums = {"relevance": float(relevance[answered].sum()), "answered": float(answered.sum())}
        total = sum_over_ranks(sums, self._ranks.device)
        return {"heldout_relevance": total["relevance"] / total["answered"]} if total["answered"] else {}

    def close(self) -> None:
        """Let go of the judge."""
        self._judge.close()


class Probe:
    """Top-K churn: the share of a few fixed queries' Top-K that was not there at the last refresh."""

    def __init__(self, towers: Towers, bank: ItemBank, query_rows: np.ndarray, k: int, ranks: Ranks) -> None:
        self._towers, self._bank, self._k, self._ranks = towers, bank, k, ranks
        self._rows = ranks.share(query_rows)
        self._last: np.ndarray | None = None

    def churn(self) -> dict[str, float]:
        """Compare with the last call; nothing on the first."""
        if len(self._rows) == 0:
            return {}
        _, items = self._bank.topk(self._towers.queries_now(self._rows), self._k)
        now, before, self._last = items.cpu().numpy(), self._last, items.cpu().numpy()
        if before is None:
            return {}
        new = np.mean([~np.isin(n, b) for n, b in zip(now, before, strict=True)])
        total = sum_over_ranks({"new": float(new)}, self._ranks.device)
        return {"topk_churn": total["new"] / self._ranks.world_size}

    def state(self) -> Mapping[str, Any]:
        """For a checkpoint."""
        return {"last": self._last}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint of the same number of ranks; otherwise churn starts anew."""
        last = state["last"]
        self._last = last if last is not None and len(last) == len(self._rows) else None
