"""Control: InfoNCE whose negatives are the model's own live Top-K. No judge, no reward.

It separates what the rewards bring from what fresh negatives bring: everything but the loss is as in Retrieval-GRPO.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taoemb.config import LiveInfoNCEConfig
from taoemb.encoder.release import Release, save_release
from taoemb.errors import InputError
from taoemb.training.context import Batches, Context
from taoemb.training.distributed import mean_over_ranks
from taoemb.training.engine import Engine
from taoemb.training.groups import group_scores
from taoemb.training.index import Index
from taoemb.training.losses import info_nce, mean_pairwise_cosine
from taoemb.training.supervised import Supervised
from taoemb.training.timing import Stopwatch
from taoemb.training.towers import open_towers, start


class LiveInfoNCE(Supervised):
    """InfoNCE of a known positive against the current Top-K, known positives masked out."""

    name = "live_infonce"
    _config: LiveInfoNCEConfig

    def __init__(self, context: Context, config: LiveInfoNCEConfig) -> None:
        if context.parent is None:
            raise InputError("live-infonce: needs --release DIR, the release to start from")
        self._context, self._config = context, config
        self.steps = config.steps
        self._positives = context.positives()
        self._false = context.false_negatives(self._positives)
        self._batches = Batches(context, self._positives.query_rows, config.queries, "live_infonce.queries")
        self._encoder, self._bank = start(context, context.parent, config.towers)
        self.engine = Engine(self._encoder, context.config.engine, config.optim, config.steps, context.ranks)
        self._towers = open_towers(context, config.towers, self.engine, self._encoder, self._bank)
        self._index = Index(
            self._bank,
            self._towers,
            moves=config.towers != "query",
            refresh=config.refresh,
            checkpoint_every=context.config.engine.checkpoint_every,
            steps=config.steps,
        )

    def step(self, step: int) -> dict[str, float]:
        """One update of this step's queries against their current Top-K."""
        watch = Stopwatch()
        with watch("refresh"):
            self._index.begin(step)
        query_rows = self._batches.of_rank(step)
        positives_M = self._positives.draw(self._batches.all_ranks(step), self._context.seed, step)
        losses = []
        for part in range(self._batches.parts):
            n = len(query_rows) // self._batches.parts
            loss, queries_QD = self._loss(query_rows[part * n : (part + 1) * n], positives_M, part, watch)
            with watch("backward"):
                self.engine.backward(loss)
            losses.append(float(loss.detach()))
        with watch("optimiser"):
            logged = self.engine.step(step)
        self._index.end()
        local = {"loss": float(np.mean(losses)), "cosine_queries": mean_pairwise_cosine(queries_QD.detach())}
        metrics = mean_over_ranks(local, self._context.ranks)
        metrics |= {"index_age": float(self._bank.age), "queries_per_s": self._config.queries / watch.total()}
        return metrics | logged | watch.seconds()

    def _loss(
        self, query_rows: np.ndarray, positives_M: np.ndarray, part: int, watch: Stopwatch
    ) -> tuple[Tensor, Tensor]:
        ranks, n = self._context.ranks, len(query_rows)
        with watch("retrieve"):
            k = min(self._config.k, self._bank.n_items)
            rows_QK = self._bank.topk(self._towers.queries_now(query_rows), k)[1].cpu().numpy()
        micro_M = self._batches.micro(positives_M, part)
        with watch("forward"):
            queries_QD = self._towers.queries(query_rows)
            items = self._towers.candidates(rows_QK, micro_M)
        with watch("loss"):
            own_Q1D = items.positives_MD[ranks.rank * n : (ranks.rank + 1) * n, None]
            scores = group_scores(queries_QD, torch.cat([own_Q1D, items.groups_QKD], dim=1))
            negative = np.concatenate([np.zeros((n, 1), bool), ~self._false.mask(query_rows, rows_QK)], axis=1)
            negative_QM = torch.from_numpy(negative).to(ranks.device)
            positive_Q = torch.zeros(n, dtype=torch.long, device=ranks.device)
            return info_nce(scores, positive_Q, negative_QM, self._config.tau).mean(), queries_QD

    def state(self) -> dict[str, Any]:
        """The index that the next step retrieves from."""
        return {"index": self._index.state()}

    def load_state(self, state: Mapping[str, Any], step: int) -> None:
        """Go back to that index."""
        self._index.load_state(state["index"], step)

    def save_release(self, weights: Mapping[str, Tensor], training: Mapping[str, Any]) -> Release:
        """A release that keeps its parent's item encoder when only the query tower was trained."""
        parent = self._context.parent
        source = parent if self._config.towers == "query" else None
        folder = self._context.folder.release
        return save_release(
            folder, self._encoder, item_source=source, parent=parent, training=training, state_dict=weights
        )


def build(context: Context) -> LiveInfoNCE:
    """The objective from the settings."""
    return LiveInfoNCE(context, context.config.live_infonce)


if __name__ == "__main__":
    from taoemb.training.entry import main

    main("live_infonce")
