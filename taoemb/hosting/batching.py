"""Requests that arrive together share a pass of the model: a queue, one worker thread, a free event loop.

When the model is idle a request starts a pass at once. While a pass runs, requests gather. After it the queue waits
shortly for as many requests as shared that pass, because clients that were answered together ask again together;
without this wait they would split for good into one early request and the rest.
"""

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from taoemb.hosting.metrics import BatchMetrics

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Overloaded(Exception):
    """More waits than the server takes."""


@dataclass(eq=False)
class _Job(Generic[Request, Reply]):
    request: Request
    size: int
    done: "asyncio.Future[Reply]"
    arrived: float


class MicroBatcher(Generic[Request, Reply]):
    """Feeds `run` with passes of at most about `pass_size` units; belongs to one event loop.

    A unit is what `size` counts in a request (texts, pairs). A larger request is a pass of its own.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Request]], Sequence[Reply | Exception]],
        *,
        size: Callable[[Request], int],
        pass_size: int,
        budget_s: float,
        queue_size: int,
        metrics: BatchMetrics,
    ) -> None:
        """`run` answers the requests of a pass, in order, on a thread of its own; an exception fails that request.

        `budget_s` bounds how long a request waits for others when the model could start; `queue_size` the waiting
        units.
        """
        self._run_pass, self._size, self._metrics = run, size, metrics
        self._pass_size, self._budget_s, self._queue_size = pass_size, budget_s, queue_size
        self._jobs: deque[_Job[Request, Reply]] = deque()
        self._units = 0
        self._pump: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._together, self._idle_since = 1, float("-inf")  # requests in the last pass, and when it ended
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="model")

    async def ask(self, request: Request) -> Reply:
        """Answer one request; a caller that is cancelled leaves the queue.

        Raises Overloaded when the queue is full, and what `run` gave or raised for this request.
        """
        size = self._size(request)
        if self._jobs and self._units + size > self._queue_size:
            raise Overloaded
        loop = asyncio.get_running_loop()
        job = _Job[Request, Reply](request, size, loop.create_future(), loop.time())
        self._jobs.append(job)
        self._count(size)
        self._more.set()
        if self._pump is None or self._pump.done():
            self._pump = loop.create_task(self._serve_queue())
        try:
            return await job.done
        except asyncio.CancelledError:
            if job in self._jobs:
                self._jobs.remove(job)
                self._count(-size)
            raise

    async def _serve_queue(self) -> None:
        loop = asyncio.get_running_loop()
        while self._jobs:
            await self._gather(loop)
            jobs = self._take()
            if not jobs:
                continue
            for job in jobs:
                self._metrics.wait_seconds.observe(loop.time() - job.arrived)
            running = loop.run_in_executor(self._worker, self._run_pass, [job.request for job in jobs])
            with self._metrics.pass_seconds.time():
                await asyncio.wait([running])
            self._together, self._idle_since = len(jobs), loop.time()
            units = sum(job.size for job in jobs)
            self._metrics.pass_size.observe(units)
            self._metrics.done.inc(units)
            _settle(jobs, running)

    async def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return when a pass should start."""
        while self._jobs and self._units < self._pass_size and len(self._jobs) < self._together:
            start = self._idle_since + self._budget_s
            left = start - loop.time()
            if left <= 0:
                return
            self._more.clear()
            try:
                await asyncio.wait_for(self._more.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Job[Request, Reply]]:
        jobs: list[_Job[Request, Reply]] = []
        units = 0
        while self._jobs and (not jobs or units + self._jobs[0].size <= self._pass_size):
            job = self._jobs.popleft()
            jobs.append(job)
            units += job.size
        self._count(-units)
        return jobs

    def _count(self, units: int) -> None:
        self._units += units
        self._metrics.waiting.set(self._units)


def _settle(jobs: Sequence[_Job[Request, Reply]], running: "asyncio.Future[Sequence[Reply | Exception]]") -> None:
    failure = running.exception()
    outcomes = running.result() if failure is None else [failure] * len(jobs)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.done.done():  # its caller has gone
            continue
        if isinstance(outcome, BaseException):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)
