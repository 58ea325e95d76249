"""What every objective starts from: the ranks, the data, the run's folder and the queries of each step."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taoemb.config import Config
from taoemb.data.dataset import Dataset
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.model import Encoder
from taoemb.encoder.release import Release
from taoemb.encoder.text import ItemTemplate
from taoemb.errors import InputError
from taoemb.training.attention import choose_attention
from taoemb.training.distributed import Ranks, check_divisible
from taoemb.training.folder import RunFolder
from taoemb.training.sampling import FalseNegatives, Positives, QueryOrder


@dataclass(frozen=True)
class RunArguments:
    """The command line of a training entry point."""

    data: Path
    out: Path
    release: Path | None = None  # what training starts from; SFT may start from config.encoder instead


@dataclass(frozen=True)
class Context:
    """One training run, as an objective sees it."""

    arguments: RunArguments
    config: Config
    ranks: Ranks
    data: Dataset
    folder: RunFolder
    parent: Release | None

    @property
    def seed(self) -> int:
        return self.config.engine.seed

    def positives(self) -> Positives:
        """Known positives of the data's pairs."""
        assert self.data.pairs is not None
        return Positives(self.data.pairs, len(self.data.queries))

    def false_negatives(self, positives: Positives) -> FalseNegatives:
        """The mask of candidates that are no negatives."""
        return FalseNegatives(self.data.items, positives)

    def query_texts(self, rows: np.ndarray) -> list[str]:
        """Texts of query rows."""
        return [self.data.queries.texts[row] for row in rows]

    def item_texts(self, rows: np.ndarray, encoder: Encoder) -> list[str]:
        """Item rows rendered by the encoder's item template."""
        return self.data.items.texts(rows, ItemTemplate(encoder.spec.item_template))


def starting_encoder(context: Context) -> Encoder:
    """The parent release's shared encoder, or the one that the settings name."""
    if context.parent is None:
        return choose_attention(load_encoder(context.config.encoder), context.config, context.ranks)
    if not context.parent.shared:
        raise InputError(
            f"{context.parent.path}: has separate encoders for queries and items; "
            "this objective trains one shared encoder: start from a release that has one"
        )
    encoder = context.parent.query_encoder(config=context.config.encoder)
    return choose_attention(encoder, context.config, context.ranks)


class Batches:
    """The queries of each step: the global order, this rank's share, and its micro-batches."""

    def __init__(self, context: Context, rows: np.ndarray, queries: int, setting: str) -> None:
        self.parts = context.config.engine.gradient_accumulation
        check_divisible(queries, context.ranks.world_size * self.parts, setting)
        self._order = QueryOrder(rows, context.seed)
        self._queries, self._ranks = queries, context.ranks

    def all_ranks(self, step: int) -> np.ndarray:
        """Query rows of the step over all ranks, rank after rank. Shape (queries,)."""
        return self._order.at(step, self._queries)

    def of_rank(self, step: int) -> np.ndarray:
        """Query rows of the step on this rank."""
        return self._ranks.share(self.all_ranks(step))

    def cuts(self) -> list[slice]:
        """This rank's micro-batches within its share."""
        size = self._queries // self._ranks.world_size // self.parts
        return [slice(part * size, (part + 1) * size) for part in range(self.parts)]

    def micro(self, global_array: np.ndarray, part: int) -> np.ndarray:
        """The `part`-th micro-batch over all ranks, cut from an array in the step's global order."""
        by_rank = global_array.reshape(self._ranks.world_size, self.parts, -1, *global_array.shape[1:])
        return by_rank[:, part].reshape(-1, *global_array.shape[1:])
