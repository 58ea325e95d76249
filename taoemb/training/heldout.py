"""What is watched during GRPO without training on it: Top-K churn of a few probe queries, and a held-out judge."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from taoemb.config import GRPOConfig
from taoemb.errors import InputError
from taoemb.judge.client import JudgeClient, JudgeFailure
from taoemb.retrieval.bank import ItemBank
from taoemb.training.context import Context
from taoemb.training.distributed import Ranks, gather_rows, sum_over_ranks
from taoemb.training.towers import Towers

DEPTH = 10  # items a query that the held-out judge grades


def held_out_rows(context: Context, config: GRPOConfig) -> np.ndarray:
    """Query rows kept out of training for the held-out judge: a seeded draw, equal for any number of ranks."""
    count, n = config.heldout_queries, len(context.data.queries)
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

    @property
    def judge(self) -> str:
        """The judge's digest."""
        return self._judge.release

    def check(self) -> dict[str, float]:
        """Mean relevance by the held-out judge over all ranks; nothing while that judge is away."""
        _, items = self._bank.topk(self._towers.queries_now(self._rows), min(DEPTH, self._bank.n_items))
        rows_QK = items.cpu().numpy()
        texts = [self._data.queries.texts[row] for row in self._rows for _ in range(rows_QK.shape[1])]
        try:
            relevance = self._judge.grade(texts, self._data.items.records(rows_QK.reshape(-1))).relevance
        except JudgeFailure:  # it only watches: the run goes on without its number
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
        self._before: tuple[int, np.ndarray | None] = (-1, None)  # the step last looked at, and what stood before it

    def churn(self, step: int) -> dict[str, float]:
        """Compare with the step looked at before, also when a step is begun again; nothing on the first."""
        if len(self._rows) == 0:
            return {}
        if step != self._before[0]:
            self._before = step, self._last
        _, items = self._bank.topk(self._towers.queries_now(self._rows), self._k)
        now, before, self._last = items.cpu().numpy(), self._before[1], items.cpu().numpy()
        if before is None:
            return {}
        new = np.mean([~np.isin(n, b) for n, b in zip(now, before, strict=True)])
        total = sum_over_ranks({"new": float(new)}, self._ranks.device)
        return {"topk_churn": total["new"] / self._ranks.world_size}

    def state(self) -> Mapping[str, Any]:
        """For a checkpoint (all ranks call)."""
        step, before = self._before
        return {"last": self._of_all_ranks(self._last), "before": (step, self._of_all_ranks(before))}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint; churn starts anew where that watched another number of queries."""
        step, before = state["before"]
        self._last, self._before = self._own(state["last"]), (step, self._own(before))

    def _own(self, kept: np.ndarray | None) -> np.ndarray | None:
        same = kept is not None and len(kept) == len(self._rows) * self._ranks.world_size
        return self._ranks.share(kept) if kept is not None and same else None

    def _of_all_ranks(self, own: np.ndarray | None) -> np.ndarray | None:
        return None if own is None else gather_rows(torch.from_numpy(own).to(self._ranks.device)).cpu().numpy()
