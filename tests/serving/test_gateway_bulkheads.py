"""A vector store that is slow for the candidate alone takes nothing from the control: not a thread, not a slot."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from taoemb.config import GatewayConfig
from taoemb.retrieval.milvus import Hit, NotLoaded
from taoemb.retrieval.registry import ReleaseEntry
from taoemb.rollout.simulate.servers import LoopbackServer
from taoemb.serving.gateway.arms import ArmFailure, EncoderClient
from taoemb.serving.gateway.metrics import gateway_metrics
from taoemb.serving.gateway.search import Ask, Searcher
from taoemb.serving.gateway.search_pool import SearchPool
from taoemb.serving.gateway.traffic_watch import TrafficWatch
from taoemb.serving.traffic import Arm, Traffic, write_traffic
from tests.serving.test_gateway_arms import VECTOR, embedding

CONTROL, CANDIDATE = "c" * 64, "d" * 64
HIT = Hit("i1", 0.5, None, None, None, None)
SLOW_S = 1.5
VECTORS = np.ones((1, 8), np.float32)


class Store:
    """Answers at once, but for the candidate in what `slow` names, which takes SLOW_S whatever its deadline says."""

    def __init__(self, slow: str = "") -> None:
        self.slow, self.asked, self.loaded = slow, Counter[str](), {"control", "candidate"}
        self.loading = threading.Event()

    def _take(self, what: str, name: str) -> None:
        self.asked[f"{what} {name}"] += 1
        if what == self.slow and name == "candidate":
            time.sleep(SLOW_S)

    def binding(self, release_digest: str, *, timeout_s: float | None = None) -> ReleaseEntry:
        name = "control" if release_digest == CONTROL else "candidate"
        self._take("binding", name)
        return ReleaseEntry(release_digest, "e", name, "taoemb", "active", "", 1, "")

    def fields(self, name: str, item_encoder_digest: str, *, timeout_s: float | None = None) -> frozenset[str]:
        return frozenset()

    def search(self, vectors_QD, release_digest, k, filter="", *, timeout_s=None) -> list[list[Hit]]:
        name = "control" if release_digest == CONTROL else "candidate"
        self._take("search", name)
        if name not in self.loaded:
            raise NotLoaded(f"collection {name} is not loaded")
        return [[HIT]]

    def is_loaded(self, name: str, *, timeout_s: float | None = None) -> bool:
        return name in self.loaded

    def load(self, name: str) -> None:
        self._take("load", name)
        self.loading.set()
        time.sleep(SLOW_S)

    def close(self) -> None:
        pass


def with_pool(store: Store, work: Callable[[SearchPool], Awaitable[Any]], timeout_s: float = 0.4) -> Any:
    async def run() -> Any:
        pool = SearchPool(lambda: store, 2, timeout_s)
        pool.start()
        try:
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(run())


async def seconds(work: Awaitable[Any]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


@pytest.mark.parametrize("slow", ["binding", "search"])
def test_what_is_slow_for_the_candidate_holds_up_no_search_of_the_control(slow: str) -> None:
    store = Store(slow)

    async def work(pool: SearchPool) -> float:
        await pool.bound(CONTROL)

        async def candidate() -> None:
            await pool.bound(CANDIDATE)
            await pool.search(VECTORS, CANDIDATE, 1, "", "candidate")

        async def fails() -> None:
            with pytest.raises(ArmFailure, match=r"within 0\.4 s"):
                await candidate()

        waiting = [asyncio.create_task(fails()) for _ in range(20)]
        await asyncio.sleep(0.1)
        took = [await seconds(pool.search(VECTORS, CONTROL, 1, "")) for _ in range(10)]
        await asyncio.gather(*waiting)
        return max(took)

    assert with_pool(store, work) < 0.2
    if slow == "binding":
        assert store.asked["binding candidate"] == 1, "one look-up serves all"


def test_a_slow_look_up_is_not_started_again_while_it_runs_and_its_late_answer_is_kept() -> None:
    store = Store("binding")

    async def work(pool: SearchPool) -> None:
        for _ in range(2):
            with pytest.raises(ArmFailure):
                await pool.bound(CANDIDATE)
        await asyncio.sleep(SLOW_S)
        assert (await pool.bound(CANDIDATE)).collection == "candidate"

    with_pool(store, work)
    assert store.asked["binding candidate"] == 1


def test_a_release_that_was_too_slow_rests_and_works_again() -> None:
    store = Store("search")

    async def work(pool: SearchPool) -> None:
        await pool.bound(CANDIDATE)
        with pytest.raises(ArmFailure):
            await pool.search(VECTORS, CANDIDATE, 1, "", "candidate")
        with pytest.raises(ArmFailure) as failed:
            pool.refuse_resting(CANDIDATE)
        assert failed.value.reason == "cooling"
        store.slow = ""
        await asyncio.sleep(0.3)
        pool.refuse_resting(CANDIDATE)
        assert await pool.search(VECTORS, CANDIDATE, 1, "", "candidate") == [HIT]

    with_pool(store, work)


def test_nothing_is_loaded_on_the_way_of_a_search() -> None:
    store = Store()
    store.loaded.discard("candidate")

    async def work(pool: SearchPool) -> tuple[float, float]:
        pool.prepare(CANDIDATE)
        looked_up = await seconds(pool.bound(CANDIDATE))
        assert await asyncio.to_thread(store.loading.wait, 10), "it is loaded without a search"
        began = time.monotonic()
        with pytest.raises(ArmFailure, match="not loaded; loading it"):
            await pool.search(VECTORS, CANDIDATE, 1, "", "candidate")
        return looked_up, time.monotonic() - began

    assert max(with_pool(store, work)) < 0.3
    assert (store.asked["load candidate"], store.asked["binding candidate"]) == (1, 1)


@pytest.fixture(scope="module")
def encoder() -> Iterator[str]:
    """Base URL of an encoder that answers as whichever release the path names."""

    async def answer(request: Request) -> JSONResponse:
        release = request.path_params["release"]
        body = {"data": [{"embedding": embedding(VECTOR)}], "release": release}
        return JSONResponse(body, headers={"x-taoemb-release": release})

    app = Starlette(routes=[Route("/{release}/openai/v1/embeddings", answer, methods=["POST"])])
    with LoopbackServer(app) as server:
        yield server.url


@pytest.mark.parametrize("design", ["ab", "interleaving"])
def test_searches_that_wait_for_a_slow_candidate_leave_half_of_the_room_to_the_control(
    encoder: str, tmp_path: Path, design: str
) -> None:
    """Of 12 searches at once, 4 may wait for the candidate; the others get the control's page without a wait."""
    arms = [Arm(release, (f"{encoder}/{release}",)) for release in (CONTROL, CANDIDATE)]
    write_traffic(tmp_path / "traffic.json", Traffic(*arms, 100.0, design))
    config = GatewayConfig(traffic=str(tmp_path / "traffic.json"), concurrency=8, patience_s=5)

    async def work(pool: SearchPool) -> list[float]:
        watch, encoders = TrafficWatch(config.traffic, 60), EncoderClient(5, 30)
        await watch.start()
        await pool.bound(CONTROL)
        await pool.bound(CANDIDATE)
        searcher = Searcher(config, watch, encoders, pool, gateway_metrics(CollectorRegistry()))

        async def search(number: int) -> float:
            served = None

            async def serve() -> None:
                nonlocal served
                served = await searcher.serve(Ask(f"r{number}", "sofa", f"u{number}", 1, "", frozenset(), None))

            took = await seconds(serve())
            assert served is not None
            assert (served.assigned, served.served) == ("candidate", "control"), served
            return took

        await search(-1)  # opens a connection
        await asyncio.sleep(0.6)
        took = await asyncio.gather(*map(search, range(12)))
        watch.stop()
        await encoders.close()
        return sorted(took)

    took = with_pool(Store("search"), work, timeout_s=0.5)
    assert took[7] < 0.35
    assert took[-1] < 1.5
