"""Ask a judge for many pairs at once, without blocking the optimiser and without inventing an answer.

A client owns a thread with an event loop: `submit` returns at once, and training goes on while the judge works. Equal
pairs are asked once, earlier judgments come from the cache, a dead judge is waited for, and a pair that got no usable
answer stays unanswered (nan).
"""

import asyncio
import concurrent.futures
import hashlib
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry

from taoemb.config import JudgeConfig
from taoemb.errors import TaoembError
from taoemb.judge.answers import Judgment, NoAnswer, relevance
from taoemb.judge.cache import JudgmentCache, key_maker
from taoemb.judge.dispatch import Answer, Dispatcher, Question
from taoemb.judge.failures import CacheFailure, JudgeChanged, JudgeFailure, JudgeUnavailable
from taoemb.judge.metrics import judge_metrics
from taoemb.judge.patience import RetryPolicy
from taoemb.judge.prompt import frame_messages, item_text, load_rubric, query_text

__all__ = ["CacheFailure", "JudgeChanged", "JudgeClient", "JudgeFailure", "JudgeUnavailable", "Judged", "RetryPolicy"]

T = TypeVar("T")
WRITE_EVERY = 256  # judgments in one transaction of the cache


@dataclass(frozen=True)
class Judged:
    """Grades of P pairs, in the order asked."""

    relevance: np.ndarray  # (P,) float32 in [0, 1]; nan = unanswered
    grade_probs: np.ndarray  # (P, 4) float32, probabilities of the grades 1, 2, 3, 4; nan = unanswered
    cached: int  # pairs answered from the cache
    asked: int  # distinct pairs that this call sent to the judge
    unanswered: int  # pairs without an answer
    seconds: float  # from submission to the last answer
    label_mass: np.ndarray  # (P,) float32: the labels' part of the first token's probability; nan = unanswered
    problem: str = ""  # why the first unanswered pair has no answer: what came back, and what may mend it


@dataclass(frozen=True)
class _Prepared:
    keys: list[bytes]  # one a pair
    texts: dict[bytes, tuple[str, str]]  # query and item text of each distinct pair
    known: dict[bytes, Judgment]


class JudgeClient:
    """Grades pairs by the judge at `config.url`; a context manager. Make it after forking, not before.

    Raises InputError for a bad URL, key file, rubric or cache file. `release` and the futures raise JudgeUnavailable
    when the judge stayed away for `config.wait_s`, refuses access, or gives no log-probabilities.
    """

    def __init__(
        self, config: JudgeConfig, *, registry: CollectorRegistry = REGISTRY, policy: RetryPolicy | None = None
    ) -> None:
        self.config = config
        self._rubric = load_rubric(config.rubric)
        extra = json.dumps(config.extra_body, sort_keys=True)
        self._template = hashlib.sha256(f"{self._rubric.digest}{extra}".encode()).hexdigest()
        self._metrics = judge_metrics(registry)
        self._dispatcher = Dispatcher(config, self._metrics, policy or RetryPolicy())
        self._cache = None if config.cache is None else JudgmentCache(config.cache, config.min_label_mass)
        self._open: dict[bytes, Answer] = {}  # asked and not yet in the cache
        self._probed: dict[bytes, Judgment] = {}  # what a probe paid for, also without a cache
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="judge-texts")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge-client", daemon=True)
        self._thread.start()

    @property
    def release(self) -> str:
        """What names the judge in caches and records: `config.release`, else what GET {url}/models says (blocks)."""
        return self._start(self._dispatcher.release).result()

    @property
    def names(self) -> frozenset[str]:
        """What names this judge: `release`, and what the server says where `config.release` is set (blocks)."""
        return self._start(self._dispatcher.names).result()

    def submit(
        self, queries: Sequence[str], items: Sequence[Mapping[str, Any]], *, remember: bool = False
    ) -> "concurrent.futures.Future[Judged]":
        """Ask for P pairs (queries[i], items[i]); items are records of the catalogue. Returns at once.

        `remember`: keep these answers for as long as the client lives, also without a cache.
        """
        if len(queries) != len(items):
            raise ValueError(f"{len(queries)} queries for {len(items)} items")
        return self._start(partial(self._judge, list(queries), list(items), remember=remember))

    def grade(self, queries: Sequence[str], items: Sequence[Mapping[str, Any]]) -> Judged:
        """Ask for P pairs and wait."""
        return self.submit(queries, items).result()

    def probe(self, queries: Sequence[str], items: Sequence[Mapping[str, Any]]) -> Judged:
        """Ask for P pairs and wait; these answers are remembered for as long as the client lives."""
        return self.submit(queries, items, remember=True).result()

    def close(self) -> None:
        """Stop; calls under way are cancelled. Safe to call again."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._worker.shutdown()
        if self._cache is not None:
            self._cache.close()

    def __enter__(self) -> "JudgeClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _start(self, work: Callable[[], Coroutine[Any, Any, T]]) -> "concurrent.futures.Future[T]":
        if not self._thread.is_alive():
            raise TaoembError("the judge client is closed")
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    async def _stop(self) -> None:
        await self._dispatcher.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _judge(self, queries: list[str], items: list[Mapping[str, Any]], *, remember: bool = False) -> Judged:
        started = time.perf_counter()
        release = await self._dispatcher.release()
        prepared = await self._loop.run_in_executor(self._worker, self._prepare, release, queries, items)
        missing = [key for key in prepared.texts if key not in prepared.known]
        fresh = self._dispatcher.start(
            (key, frame_messages(self._rubric, *prepared.texts[key])) for key in missing if key not in self._open
        )
        self._open.update({question.key: question.answer for question in fresh})
        awaited = {key: self._open[key] for key in missing}
        await self._collect(awaited, fresh)
        found = prepared.known | {key: answer.result() for key, answer in awaited.items()}
        if remember:
            self._probed |= {key: answer for key, answer in found.items() if isinstance(answer, Judgment)}
        return self._judged(prepared, found, len(fresh), time.perf_counter() - started)

    def _prepare(self, release: str, queries: list[str], items: list[Mapping[str, Any]]) -> _Prepared:
        key_of = key_maker(release, self._template)
        keys, texts = [], {}
        for query, item in zip(queries, items, strict=True):
            pair = query_text(query), item_text(item, self.config.item_tokens)
            key = key_of(*pair)
            keys.append(key)
            texts[key] = pair
        known = {} if self._cache is None else self._cache.get(list(texts))
        known |= {key: self._probed[key] for key in texts if key in self._probed}
        return _Prepared(keys, texts, known)

    async def _collect(self, awaited: Mapping[bytes, Answer], fresh: Sequence[Question]) -> None:
        """Wait for all answers; keep the fresh ones in the cache as they come, also when the call fails."""
        try:
            for first in range(0, len(fresh), WRITE_EVERY):
                part = fresh[first : first + WRITE_EVERY]
                await _all_settled(question.answer for question in part)
                await self._keep(part)
            await _all_settled(awaited.values())
        finally:
            await self._keep([question for question in fresh if question.key in self._open])

    async def _keep(self, questions: Sequence[Question]) -> None:
        done = [q for q in questions if q.answer.done() and not q.answer.cancelled() and q.answer.exception() is None]
        judgments = [(q.key, answer) for q in done if isinstance(answer := q.answer.result(), Judgment)]
        try:
            if self._cache is not None and judgments:
                await self._loop.run_in_executor(self._worker, self._cache.put, judgments)
        finally:
            for question in questions:
                self._open.pop(question.key, None)

    def _judged(
        self, prepared: _Prepared, found: Mapping[bytes, Judgment | NoAnswer], asked: int, seconds: float
    ) -> Judged:
        answers = [found[key] for key in prepared.keys]
        rows = [(*one.probs, one.mass) if isinstance(one, Judgment) else (np.nan,) * 5 for one in answers]
        values_P5 = np.array(rows, dtype=np.float32).reshape(-1, 5)
        probs_P4, mass_P = np.ascontiguousarray(values_P5[:, :4]), values_P5[:, 4].copy()
        bad = [one for one in answers if isinstance(one, NoAnswer)]
        cached = sum(key in prepared.known for key in prepared.keys)
        for outcome, count in (("cached", cached), ("asked", asked), ("unanswered", len(bad))):
            self._metrics.pairs.labels(self._dispatcher.url, outcome).inc(count)
        problem = str(bad[0]) if bad else ""
        return Judged(relevance(probs_P4), probs_P4, cached, asked, len(bad), seconds, mass_P, problem)


async def _all_settled(answers: Iterable[Answer]) -> None:
    """Wait for `answers` (shared with other calls: not cancelled with this one). Raises the first error."""
    waiting = set(answers)
    if waiting:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
        for answer in done:
            answer.result()
