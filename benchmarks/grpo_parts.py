"""One Retrieval-GRPO step made of the library's own parts, with a judge that costs nothing.

Benchmarks vary K and the bank without starting a run for each; the parts, and what happens in them, are those of
`taoemb.training.grpo`. Rewards are random numbers drawn beforehand: judging is counted, not timed.
"""

from concurrent.futures import Future
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from taoemb.config import Config
from taoemb.data.dataset import Dataset
from taoemb.encoder.model import Encoder
from taoemb.retrieval.bank import ItemBank
from taoemb.rewards.combine import Rewards
from taoemb.training.checkpoint import RunFolder
from taoemb.training.context import Batches, Context, RunArguments
from taoemb.training.distributed import Ranks
from taoemb.training.engine import Engine
from taoemb.training.groups import Group, group_scores
from taoemb.training.policy import PolicyUpdate
from taoemb.training.rewarding import Scored
from taoemb.training.timing import Stopwatch
from taoemb.training.towers import open_towers


def new_context(config: Config, ranks: Ranks, data: Dataset, folder: Path) -> Context:
    """A context without a parent release: the encoder is given by whoever benchmarks."""
    return Context(RunArguments(data.root, folder), config, ranks, data, RunFolder(folder), None)


class GrpoStep:
    """Steps of one encoder against one bank; several may share an engine."""

    def __init__(self, context: Context, engine: Engine, encoder: Encoder, bank: ItemBank) -> None:
        config = context.config.grpo
        self._config, self._bank, self._items = config, bank, len(context.data.items)
        self._towers = open_towers(context, config.towers, engine, encoder, bank)
        positives = context.positives()
        self._batches = Batches(context, positives.query_rows, config.queries, "grpo.queries")
        self._update = PolicyUpdate(context, config, engine, self._towers, self._batches, positives)

    def run(self, step: int, k: int, watch: Stopwatch) -> int:
        """One step with groups of `k`; the seconds of its parts go to `watch`. Returns the pairs to be judged.

        A bank may hold more rows than there are items: with both towers, row r is then the text of item r mod items.
        """
        query_rows = self._batches.of_rank(step)
        with watch("queries"):
            vectors_QD = self._towers.queries_now(query_rows)
        with watch("Top-K"):
            _, items_QK = self._bank.topk(vectors_QD, k)
            rows_QK = items_QK.cpu().numpy()
        with watch("group"):
            reference_QK = group_scores(vectors_QD, self._bank.vectors(items_QK))
        if self._config.towers != "query":
            rows_QK = rows_QK % self._items
        group = Group(step, query_rows, rows_QK, None, reference_QK, Future())
        self._update.train(group, random_rewards(rows_QK.shape, step), watch)
        return rows_QK.size


def random_rewards(shape: tuple[int, ...], seed: int) -> Scored:
    """What a judge could have said of groups of this shape (Q, K)."""
    drawn = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return Scored(Rewards(drawn, drawn, np.zeros_like(drawn), np.zeros_like(drawn)), 0, drawn.size, 0, 0.0)


def random_unit_vectors(bank: ItemBank, seed: int = 0, batch: int = 65_536) -> None:
    """Fill a bank with directions drawn uniformly: what Top-K costs does not depend on what its vectors mean."""
    generator = torch.Generator(bank.device).manual_seed(seed)

    def draw(rows: np.ndarray) -> Tensor:
        drawn = torch.randn(len(rows), bank.dimension, generator=generator, device=bank.device)
        return torch.nn.functional.normalize(drawn, dim=1)

    bank.fill(draw, batch=batch, show=False)
