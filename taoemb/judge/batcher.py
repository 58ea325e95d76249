"""Requests that arrive together are judged together: a queue, one worker thread, and an event loop that stays free."""

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry

from taoemb.errors import InputError
from taoemb.judge.backends import Backend, Message
from taoemb.judge.metrics import server_metrics

Conversations = Sequence[Sequence[Message]]


class Overloaded(Exception):
    """More pairs wait than the server takes."""


@dataclass(frozen=True)
class Scored:
    """The answers to one request of n conversations."""

    logprobs: np.ndarray  # (n, 4) of the labels 1, 2, 3, 4
    prompt_tokens: int  # of all conversations together


@dataclass(frozen=True)
class _Job:
    conversations: Conversations
    done: "asyncio.Future[Scored]"


class Batcher:
    """Feeds `backend` with passes of about `batch_pairs` pairs; belongs to one event loop."""

    def __init__(
        self,
        backend: Backend,
        *,
        batch_pairs: int,
        wait_s: float,
        queue_pairs: int,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._backend, self._metrics = backend, server_metrics(registry)
        self._batch_pairs, self._wait_s, self._queue_pairs = batch_pairs, wait_s, queue_pairs
        self._jobs: deque[_Job] = deque()
        self._pairs = 0
        self._pump: asyncio.Task[None] | None = None
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="judge-model")

    async def ask(self, conversations: Conversations) -> Scored:
        """Judge the conversations of one request.

        Raises InputError when one of them can't be judged, Overloaded when the queue is full.
        """
        if self._jobs and self._pairs + len(conversations) > self._queue_pairs:
            raise Overloaded
        loop = asyncio.get_running_loop()
        job = _Job(conversations, loop.create_future())
        self._jobs.append(job)
        self._pairs += len(conversations)
        if self._pump is None or self._pump.done():
            self._pump = loop.create_task(self._run())
        return await job.done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._jobs:
            if self._pairs < self._batch_pairs and self._wait_s:
                await asyncio.sleep(self._wait_s)
            self._metrics.waiting.set(self._pairs)
            jobs = self._take()
            pairs = sum(len(job.conversations) for job in jobs)
            scoring = loop.run_in_executor(self._worker, _score, self._backend, [job.conversations for job in jobs])
            with self._metrics.pass_seconds.time():
                await asyncio.wait([scoring])
            self._metrics.waiting.set(self._pairs)
            self._metrics.pass_pairs.observe(pairs)
            self._metrics.pairs.inc(pairs)
            failure = scoring.exception()
            outcomes = scoring.result() if failure is None else [failure] * len(jobs)
            for job, outcome in zip(jobs, outcomes, strict=True):
                _settle(job, outcome)

    def _take(self) -> list[_Job]:
        jobs: list[_Job] = []
        pairs = 0
        while self._jobs and (not jobs or pairs + len(self._jobs[0].conversations) <= self._batch_pairs):
            job = self._jobs.popleft()
            self._pairs -= len(job.conversations)
            if not job.done.cancelled():  # the client has gone
                jobs.append(job)
                pairs += len(job.conversations)
        return jobs


def _settle(job: _Job, outcome: Scored | BaseException) -> None:
    if job.done.done():
        return
    if isinstance(outcome, Scored):
        job.done.set_result(outcome)
    else:
        job.done.set_exception(outcome)


def _score(backend: Backend, requests: Sequence[Conversations]) -> list[Scored | InputError]:
    """One pass on the worker thread; a conversation that can't be judged fails its own request only."""
    prepared = [_prepare(backend, conversations) for conversations in requests]
    pairs = [pair for request in prepared if not isinstance(request, InputError) for pair in request]
    logprobs_P4 = backend.label_logprobs(pairs) if pairs else np.empty((0, 4))
    outcomes: list[Scored | InputError] = []
    start = 0
    for request in prepared:
        if isinstance(request, InputError):
            outcomes.append(request)
        else:
            end = start + len(request)
            outcomes.append(Scored(logprobs_P4[start:end], sum(map(backend.prompt_tokens, request))))
            start = end
    return outcomes


def _prepare(backend: Backend, conversations: Conversations) -> list | InputError:
    prepared = []
    for number, messages in enumerate(conversations):
        try:
            prepared.append(backend.prepare(messages))
        except InputError as error:
            return InputError(f"conversation {number}: {error}" if len(conversations) > 1 else str(error))
    return prepared
