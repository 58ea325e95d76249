"""Simulated shoppers that search and click through a real gateway, and check every reply.

They are the load of `taoemb rollout simulate`, of the demo and of the tests: what a rollout promises (no failed search,
no page whose encoder and collection belong to different releases) is counted here, on the shoppers' side.
"""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np

from taoemb.errors import TaoembError
from taoemb.rollout.simulate.shopping import Habits, act
from taoemb.secret_file import tester_headers

_SHOWN_FAILURES = 20
_LATENCIES = 100_000


@dataclass(frozen=True)
class Demand:
    """Who comes, and what they search for."""

    queries: Sequence[str]
    shoppers: int
    """Different shoppers in all; each is a unit of the rollout. They return by `habits.returning`."""
    seed: int = 0
    k: int = 10
    concurrency: int = 8
    """Shoppers at the same time."""
    rate: float = 0.0
    """Searches a second; 0: as fast as they are answered."""
    habits: Habits = field(default_factory=Habits)
    grades: Callable[[str, Sequence[str]], Sequence[int]] | None = None
    """(query, item ids) → true grades, on which shoppers act; without it they only search."""
    collections: Mapping[str, str] = field(default_factory=dict)
    """Release digest → the collection that it is bound to; empty: a release's first page tells."""
    token_file: Path | None = None
    """The gateway's `tester_token_file`: with it pages say where they are from, and that is checked."""
    timeout_s: float = 60.0


@dataclass
class TrafficLog:
    """What the shoppers saw."""

    searches: int = 0
    shoppers: int = 0
    failed: int = 0
    """Searches without a page: no connection, a status other than 200, or no JSON."""
    mismatched: int = 0
    """Pages whose release is not bound to the collection that was searched."""
    events: int = 0
    failed_events: int = 0
    """Requests with events that the gateway did not take."""
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Pages by (assigned arm, arm that answered); nothing without the testers' token."""
    failures: list[str] = field(default_factory=list)
    """The first failures, in words."""
    seconds: list[float] = field(default_factory=list)
    """Duration of searches, as the shopper sees it; the first 100,000."""

    def milliseconds(self, share: float) -> float:
        """A quantile of the searches' duration; nan without searches."""
        return float(np.quantile(self.seconds, share)) * 1000 if self.seconds else float("nan")

    def check(self) -> None:
        """Raise TaoembError unless all searches were answered by matching pairs of encoder and collection."""
        if self.failed or self.mismatched or self.failed_events:
            raise TaoembError(
                f"of {self.searches:,} searches {self.failed:,} failed and {self.mismatched:,} mixed two releases; "
                f"{self.failed_events:,} requests with events failed; first: {'; '.join(self.failures[:3])}"
            )

    def note(self, what: str) -> None:
        """Remember a failure in words."""
        if len(self.failures) < _SHOWN_FAILURES:
            self.failures.append(what)


class Shoppers:
    """Shoppers in a thread of their own, from `start` until all were there or `stop` (a context manager)."""

    def __init__(self, gateway: str, demand: Demand) -> None:
        self.log = TrafficLog()
        self._gateway, self._demand = gateway.rstrip("/"), demand
        self._rng = random.Random(demand.seed)
        self._bound = dict(demand.collections)
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shoppers")
        self._work: Future[None] | None = None
        self._due = 0.0

    @property
    def time(self) -> float:
        """Share of the shoppers that have come, 0 to 1."""
        return min(1.0, self.log.shoppers / max(1, self._demand.shoppers))

    @property
    def gone(self) -> bool:
        """Whether all have left."""
        return self._work is not None and self._work.done()

    def start(self) -> None:
        """Let them come."""
        self._work = self._pool.submit(asyncio.run, self._shop())

    def stop(self) -> TrafficLog:
        """Let those who are there finish their page, and nobody else come."""
        self._stop.set()
        return self.wait()

    def wait(self) -> TrafficLog:
        """Wait until all have left."""
        if self._work is not None:
            self._work.result()
        return self.log

    def __enter__(self) -> "Shoppers":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._pool.shutdown()

    async def _shop(self) -> None:
        demand = self._demand
        limits = httpx.Limits(max_connections=demand.concurrency, max_keepalive_connections=demand.concurrency)
        headers = tester_headers(demand.token_file)
        async with httpx.AsyncClient(trust_env=False, timeout=demand.timeout_s, limits=limits, headers=headers) as http:
            self._due = time.monotonic()
            await asyncio.gather(*(self._sessions(http) for _ in range(demand.concurrency)))

    async def _sessions(self, http: httpx.AsyncClient) -> None:
        while (unit := self._next_unit()) is not None:
            while not self._stop.is_set():
                await self._pace()
                await self._visit(http, unit)
                if self._rng.random() >= self._demand.habits.more_pages:
                    break

    def _next_unit(self) -> str | None:
        log, demand = self.log, self._demand
        if self._stop.is_set() or log.shoppers >= demand.shoppers:
            return None
        if log.shoppers and self._rng.random() < demand.habits.returning:
            return f"shopper-{demand.seed}-{self._rng.randrange(log.shoppers)}"
        log.shoppers += 1
        return f"shopper-{demand.seed}-{log.shoppers - 1}"

    async def _pace(self) -> None:
        if self._demand.rate > 0:
            self._due += 1 / self._demand.rate
            await asyncio.sleep(max(0.0, self._due - time.monotonic()))

    async def _visit(self, http: httpx.AsyncClient, unit: str) -> None:
        query = self._rng.choice(self._demand.queries)
        page = await self._search(http, unit, query)
        if page is None or self._demand.grades is None:
            return
        items = page["items"]
        ids = [item["item_id"] for item in items]
        prices = [item["price"] for item in items]
        grades = self._demand.grades(query, ids)
        events = act(self._demand.habits, page["request_id"], ids, prices, grades, self._rng)
        self.log.events += len(events)
        answer = await self._send(http, "/events", {"events": events})
        if answer is None:
            self.log.failed_events += 1

    async def _search(self, http: httpx.AsyncClient, unit: str, query: str) -> dict[str, Any] | None:
        log = self.log
        log.searches += 1
        started = time.perf_counter()
        page = await self._send(http, "/search", {"query": query, "user": unit, "k": self._demand.k})
        if len(log.seconds) < _LATENCIES:
            log.seconds.append(time.perf_counter() - started)
        if page is None:
            log.failed += 1
            return None
        if self._demand.token_file is not None:
            log.served[page["assigned"], page["served"]] += 1
            for source in page["sources"]:
                self._check_bound(source["release"], source["collection"])
        return page

    def _check_bound(self, release: str, collection: str) -> None:
        bound = (
            self._bound.setdefault(release, collection) if not self._demand.collections else self._bound.get(release)
        )
        if bound != collection:
            self.log.mismatched += 1
            self.log.note(f"release {release[:16]} searched {collection}, it is bound to {bound or 'nothing'}")

    async def _send(self, http: httpx.AsyncClient, route: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            response = await http.post(self._gateway + route, json=body)
        except httpx.HTTPError as error:
            self.log.note(f"{route}: {type(error).__name__}: {error}")
            return None
        if response.status_code not in (200, 202):
            self.log.note(f"{route}: HTTP {response.status_code}: {response.text[:200]}")
            return None
        return dict(response.json())


def drive(gateway: str, demand: Demand) -> TrafficLog:
    """Let all shoppers of `demand` come and go; returns what they saw."""
    shoppers = Shoppers(gateway, demand)
    shoppers.start()
    return shoppers.wait()
