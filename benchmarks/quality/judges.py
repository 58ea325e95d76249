"""Judges inside the training process: what they say is real, only the HTTP between is left out (speed/ has that).

- `rules`: the generated shop's own rules; `rules-10%`: the same, wrong by chance in so many of its grades (a wrong
  grade is any other one, always the same for a pair, as from a model at temperature 0);
- `trained:DIR`: the cross-encoder that `taoemb judge train` has written there.
"""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from taoemb.data.dataset import Dataset
from taoemb.data.truth import Truth
from taoemb.judge.answers import relevance
from taoemb.judge.client import Judged
from taoemb.judge.cross_encoder import CrossEncoderJudge
from taoemb.judge.prompt import item_text
from taoemb.judge.rules import SURE

ITEM_TOKENS = 256


class Judge(Protocol):
    """What Retrieval-GRPO asks of a judge client, and plain grading."""

    release: str
    seconds: float
    """What judging has taken so far."""

    def submit(self, queries: Sequence[str], items: Sequence[Mapping[str, Any]]) -> "Future[Judged]":
        """Judge pairs; here the future is done at once."""

    def probs(self, queries: Sequence[str], items: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Probabilities (P, 4) of the grades."""

    def close(self) -> None:
        """Nothing is open."""


def open_judge(name: str, data: Dataset) -> Judge:
    """The judge of that name (see the module's words) for the queries and items of `data`."""
    if name.startswith("trained:"):
        return TrainedJudge(Path(name.removeprefix("trained:")))
    _, _, share = name.partition("-")
    return RulesJudge(data, float(share.rstrip("%")) / 100 if share else 0.0)


class _AtOnce(ABC):
    seconds = 0.0

    def submit(self, queries: Sequence[str], items: Sequence[Mapping[str, Any]]) -> "Future[Judged]":
        """Judge pairs in the caller's thread."""
        started = time.perf_counter()
        done: Future[Judged] = Future()
        probs_P4 = self.probs(queries, items)
        done.set_result(Judged(relevance(probs_P4), probs_P4, 0, len(probs_P4), 0, 0.0, probs_P4.sum(1)))
        self.seconds += time.perf_counter() - started
        return done

    @abstractmethod
    def probs(self, queries: Sequence[str], items: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Probabilities (P, 4) of the grades."""

    def close(self) -> None:  # noqa: B027
        """Nothing is open."""


class RulesJudge(_AtOnce):
    """The shop's rules, wrong in a share of the pairs."""

    def __init__(self, data: Dataset, wrong: float) -> None:
        self.release = f"rules, {wrong:.0%} wrong"
        self._truth, self._wrong = Truth(data), wrong
        self._row_of = {item: row for row, item in enumerate(data.items.ids.to_pylist())}
        self._said: dict[str, np.ndarray] = {}

    def probs(self, queries: Sequence[str], items: Sequence[Mapping[str, Any]]) -> np.ndarray:
        grades_P = np.array(
            [self._grades(query)[self._row_of[item["item_id"]]] for query, item in zip(queries, items, strict=True)]
        )
        probs_P4 = np.full((len(grades_P), 4), (1 - SURE) / 3, dtype=np.float32)
        probs_P4[np.arange(len(grades_P)), grades_P - 1] = SURE
        return probs_P4

    def _grades(self, query: str) -> np.ndarray:
        if query not in self._said:
            grades_N = self._truth.grades(query)
            random = np.random.default_rng(int.from_bytes(hashlib.sha256(query.encode()).digest()[:8]))
            wrong_N = random.random(len(grades_N)) < self._wrong
            other_N = (grades_N - 1 + random.integers(1, 4, len(grades_N))) % 4 + 1
            self._said[query] = np.where(wrong_N, other_N, grades_N)
        return self._said[query]


class TrainedJudge(_AtOnce):
    """A trained cross-encoder; every distinct pair is scored once."""

    def __init__(self, folder: Path) -> None:
        self._judge = CrossEncoderJudge.load(folder)
        self.release = str(folder)
        self._known: dict[tuple[str, str], np.ndarray] = {}

    @torch.no_grad()
    def probs(self, queries: Sequence[str], items: Sequence[Mapping[str, Any]]) -> np.ndarray:
        keys = [(query, str(item["item_id"])) for query, item in zip(queries, items, strict=True)]
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in self._known}
        if missing:
            texts = [item_text(item, ITEM_TOKENS) for item in missing.values()]
            scored = self._judge.score([query for query, _ in missing], texts)
            self._known.update(zip(missing, scored, strict=True))
        return np.array([self._known[key] for key in keys])
