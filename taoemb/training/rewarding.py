"""Turns retrieved groups into rewards in the background, so that judging overlaps the optimiser."""

from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from taoemb.config import RewardConfig
from taoemb.data.dataset import Dataset
from taoemb.judge.client import JudgeClient
from taoemb.retrieval.bm25 import BM25Route
from taoemb.rewards.combine import Rewards, combine
from taoemb.rewards.exclusivity import outside_route, uncovered_terms
from taoemb.rewards.quality import quality_scores

_REMEMBERED = 50_000  # item records kept ready for the judge


@dataclass(frozen=True)
class Scored:
    """Rewards of a batch of groups and what the judge did for them."""

    rewards: Rewards
    cached: int
    asked: int
    unanswered: int
    judge_s: float  # from the question to the last answer
    label_mass: float = 0.0  # the labels' part of the first token's probability, summed over answered pairs
    problem: str = ""  # why the first unanswered pair has no answer


class Rewarder:
    """Scores groups: relevance by the live judge, quality from signals, exclusivity against the BM25 route."""

    def __init__(self, data: Dataset, judge: JudgeClient, config: RewardConfig, *, at_once: int) -> None:
        """`at_once`: batches of groups that may wait for the judge together."""
        self._data, self._judge, self._config = data, judge, config
        self._quality_N = quality_scores(data.items)
        by_route = config.exclusivity > 0 and config.exclusivity_measure == "bm25"
        self._route = BM25Route(data.items, config.bm25_top) if by_route else None
        self._records: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        self._turn = Lock()  # batches are prepared one after the other, and wait for the judge side by side
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="rewards")

    def submit(self, query_rows: np.ndarray, rows_QK: np.ndarray) -> Future[Scored]:
        """Start to score groups: the judge is asked without waiting for groups that were handed in before.

        The future raises JudgeUnavailable when the judge stays away.
        """
        return self._pool.submit(self._score, query_rows, rows_QK)

    def _score(self, query_rows: np.ndarray, rows_QK: np.ndarray) -> Scored:
        texts = [self._data.queries.texts[row] for row in query_rows]
        with self._turn:
            pairs_texts = [text for text in texts for _ in range(rows_QK.shape[1])]
            judging = self._judge.submit(pairs_texts, self._items(rows_QK.reshape(-1)))
            exclusivity_QK = self._exclusivity(texts, rows_QK)
        judged = judging.result()
        relevance_QK = judged.relevance.reshape(rows_QK.shape)
        rewards = combine(relevance_QK, self._quality_N[rows_QK], exclusivity_QK, self._config)
        mass = float(np.nansum(judged.label_mass))
        counts = judged.cached, judged.asked, judged.unanswered
        return Scored(rewards, *counts, judged.seconds, mass, judged.problem)

    def _exclusivity(self, texts: list[str], rows_QK: np.ndarray) -> np.ndarray:
        if self._config.exclusivity == 0:
            return np.zeros(rows_QK.shape, dtype=np.float32)
        if self._route is not None:
            return outside_route(self._route, texts, rows_QK)
        titles = [str(record["title"]) for record in self._items(rows_QK.reshape(-1))]
        k = rows_QK.shape[1]
        return np.stack([uncovered_terms(text, titles[i * k : (i + 1) * k]) for i, text in enumerate(texts)])

    def _items(self, rows: np.ndarray) -> list[Mapping[str, Any]]:
        missing = np.array([row for row in dict.fromkeys(rows.tolist()) if row not in self._records], dtype=np.int64)
        if len(missing):
            self._records.update(zip(missing.tolist(), self._data.items.records(missing), strict=True))
        found = [self._records[row] for row in rows.tolist()]
        while len(self._records) > _REMEMBERED:
            self._records.popitem(last=False)
        return found

    def close(self) -> None:
        """Stop; what still waits for the judge ends when its client does."""
        self._pool.shutdown(wait=False, cancel_futures=True)
