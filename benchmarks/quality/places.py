"""Where runs are trained and measured: a dataset to train on, and held-out queries that somebody graded.

A worker process opens a place once and keeps it: its process group, its judges, and who has graded what.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from benchmarks.quality.judges import Judge, open_judge
from benchmarks.quality.measure import TrueGrades
from benchmarks.quality.people import HumanGrades
from taoemb.config import Config, EncoderConfig, load_config
from taoemb.data.dataset import Dataset, open_dataset
from taoemb.encoder.model import Encoder
from taoemb.encoder.release import Release, load_release
from taoemb.retrieval.bank import ItemBank
from taoemb.training.banks import fill_by_release, new_bank
from taoemb.training.checkpoint import RunFolder
from taoemb.training.context import Context, RunArguments
from taoemb.training.distributed import Ranks, joined_ranks

WORK = Path(__file__).parents[2] / ".bench"
"""What benchmarks keep for each other: shops, releases, embedded catalogues. `make bench` starts without it."""
PLAIN = (
    "engine.trackers=[]",
    "engine.checkpoint_every=1000000",
    "encoder.precision=auto",
    f"engine.banks={WORK / 'banks'}",
)


class Grades(Protocol):
    """Held-out queries with grades."""

    def of_encoder(self, queries: Encoder, vectors_ND: np.ndarray) -> Mapping[str, np.ndarray]:
        """Metric → (Q,) of exact search with this query encoder over item vectors (N, D)."""


@dataclass(frozen=True)
class Where:
    """A folder with `train` and `test` over the same items, and who graded `test`."""

    folder: Path
    by: Literal["rules", "people"]


class Place:
    """An opened place."""

    def __init__(self, where: Where) -> None:
        self.train: Dataset = open_dataset(where.folder / "train", need=("items", "queries", "pairs"))
        self.grades: Grades = (TrueGrades if where.by == "rules" else HumanGrades)(where.folder / "test")
        self._judges: dict[str, Judge] = {}

    def judge(self, name: str) -> Judge:
        """That judge, which remembers what it has graded."""
        if name not in self._judges:
            self._judges[name] = open_judge(name, self.train)
        return self._judges[name]

    def context(self, folder: Path, settings: list[str], start: Path | None = None) -> Context:
        """A training run here, as an objective sees it."""
        config: Config = load_config(None, [*PLAIN, *settings])
        parent = None if start is None else load_release(start)
        return Context(
            RunArguments(self.train.root, folder, start), config, ranks(), self.train, RunFolder(folder), parent
        )

    def vectors(self, release: Release) -> np.ndarray:
        """Item vectors (N, D) of a release, by the bank that runs from it find too."""
        return self._bank(release).vectors(torch.arange(len(self.train.items))).numpy()

    def embed_s(self, release: Release) -> float:
        """Seconds that embedding the catalogue with this release's item encoder took, whichever process did it."""
        note = self._note(release)
        if not note.is_file():
            self._bank(release)
        return float(note.read_text(encoding="utf-8"))

    def measured(self, release: Release) -> dict[str, np.ndarray]:
        """Per-query metrics of a release on the held-out queries."""
        queries = release.query_encoder(config=EncoderConfig(precision="auto"))
        return dict(self.grades.of_encoder(queries, self.vectors(release)))

    def _bank(self, release: Release) -> ItemBank:
        context = self.context(WORK, [], release.path)
        encoder = release.item_encoder(config=context.config.encoder)
        bank = new_bank(context, encoder)
        started = time.perf_counter()
        fill_by_release(bank, context, encoder, release)
        note = self._note(release)
        if not note.is_file():  # the first time it was embedded, not read
            note.write_text(f"{time.perf_counter() - started}", encoding="utf-8")
        return bank

    def _note(self, release: Release) -> Path:
        here = self.train.root.resolve().relative_to(WORK)
        return WORK / "banks" / f"{release.manifest.item_encoder_digest[:32]}-{'-'.join(here.parts)}.seconds"


_KNOWN: dict[Where, Place] = {}
_RANKS: list[Any] = []


def place(where: Where) -> Place:
    """This process's place."""
    if where not in _KNOWN:
        _KNOWN[where] = Place(where)
    return _KNOWN[where]


def ranks() -> Ranks:
    """This process alone, in a group that lasts as long as it: DeepSpeed can't meet a second one."""
    if not _RANKS:
        group = joined_ranks()
        _RANKS.extend([group.__enter__(), group])  # the group is kept, or it would end here
    return _RANKS[0]
