"""The store behind the gateway opens late, hangs and learns of releases: searches wait, give up, and see new ones."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from taoemb.config import MilvusConfig
from taoemb.errors import TaoembError
from taoemb.retrieval.milvus import Hit, MilvusStore
from taoemb.retrieval.publish import publish
from taoemb.retrieval.registry import ReleaseEntry
from taoemb.serving.gateway import search_pool
from taoemb.serving.gateway.arms import ArmFailure
from taoemb.serving.gateway.search_pool import SearchPool, Store
from tests.serving.gateway_shop import ITEMS, Shop, write_items

VECTORS = np.ones((1, 4), np.float32)
HIT = Hit("i1", 0.5, None, None, None, None)


class Fake:
    """A store whose searches wait for `free`."""

    def __init__(self) -> None:
        self.free, self.closed = threading.Event(), False

    def binding(self, release_digest: str, *, timeout_s: float | None = None) -> ReleaseEntry:
        return ReleaseEntry(release_digest, "e", "c", "taoemb", "active", "", 1, "")

    def fields(self, name: str, item_encoder_digest: str, *, timeout_s: float | None = None) -> frozenset[str]:
        return frozenset()

    def search(self, vectors_QD, release_digest, k, filter="", *, timeout_s=None) -> list[list[Hit]]:
        assert self.free.wait(60)
        return [[HIT]]

    def is_loaded(self, name: str, *, timeout_s: float | None = None) -> bool:
        return self.free.wait(0.01)

    def load(self, name: str) -> None:
        self.free.set()

    def close(self) -> None:
        self.closed = True


def using(open_store: Callable[[], Store], work: Callable[[SearchPool], object], timeout_s: float = 20) -> object:
    """What `work` gives for a pool of two threads, which is closed afterwards."""

    async def run() -> object:
        pool = SearchPool(open_store, 2, timeout_s)
        pool.start()
        try:
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(run())


def test_it_opens_as_soon_as_it_can_and_searches_wait_for_it() -> None:
    store, tries = Fake(), []
    store.free.set()

    def open_store() -> Store:
        tries.append(1)
        if len(tries) < 3:
            raise TaoembError("held by another process")
        return store

    assert using(open_store, lambda pool: pool.search(VECTORS, "d", 1, "")) == [HIT]
    assert (len(tries), store.closed) == (3, True)


def test_a_store_that_never_opens_says_why() -> None:
    def open_store() -> Store:
        raise TaoembError("held by another process")

    with pytest.raises(ArmFailure, match="held by another process"):
        using(open_store, lambda pool: pool.search(VECTORS, "d", 1, ""), timeout_s=0.3)


def test_a_store_that_hangs_holds_up_neither_searches_nor_the_end() -> None:
    store = Fake()

    async def search_often(pool: SearchPool) -> list[str]:
        searches = (pool.search(VECTORS, "d", 1, "") for _ in range(5))
        found = await asyncio.gather(*searches, return_exceptions=True)
        return [failure.reason for failure in found if isinstance(failure, ArmFailure)]

    began = time.monotonic()
    assert using(lambda: store, search_often, timeout_s=0.3) == ["search"] * 5
    assert time.monotonic() - began < 10
    store.free.set()


def test_a_release_that_is_published_later_is_found(
    gateway_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_pool, "REASK_S", 0.05)
    config = MilvusConfig(uri=str(tmp_path / "milvus.db"), index="FLAT", spot_queries=5)
    data, release = write_items(tmp_path / "data", ITEMS), gateway_shop.releases.base
    digest = release.manifest.digest

    async def ask(pool: SearchPool) -> tuple[str, str]:
        with pytest.raises(ArmFailure) as failed:
            await pool.bound(digest)
        published = await asyncio.to_thread(publish, release, data, config)
        await asyncio.sleep(0.1)
        bound = await pool.bound(digest)
        assert bound.collection == published.collection
        assert bound.dimension == 32
        assert {"brand", "price", "signal_rating"} <= bound.fields
        return failed.value.reason, str(failed.value)

    reason, why = using(lambda: MilvusStore(config), ask)
    assert reason == "unbound"
    assert digest[:16] in why


def test_a_collection_that_was_released_is_loaded_again(gateway_shop: Shop, tmp_path: Path) -> None:
    """As when somebody releases it, or a server forgets it: the search fails once and is answered soon after."""
    config = MilvusConfig(uri=str(gateway_shop.copy(tmp_path)), index="FLAT")
    digest = gateway_shop.releases.base.manifest.digest
    opened: list[MilvusStore] = []

    def open_store() -> MilvusStore:
        opened.append(MilvusStore(config))
        return opened[-1]

    async def release_and_search(pool: SearchPool) -> list[Hit]:
        bound = await pool.bound(digest)
        vectors = np.ones((1, bound.dimension or 0), np.float32)
        assert len(await pool.search(vectors, digest, 3, "")) == 3
        opened[0].client.release_collection(bound.collection)
        with pytest.raises(ArmFailure, match=f"collection {bound.collection} is not loaded; loading it"):
            await pool.search(vectors, digest, 3, 'brand == "Acme"')
        async with asyncio.timeout(30):
            while await pool.check(digest):
                await asyncio.sleep(0.02)
        return await pool.search(vectors, digest, 3, "")

    assert len(using(open_store, release_and_search)) == 3


def test_a_check_loads_what_nobody_searches_and_never_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_pool, "CHECK_S", 0.3)
    store = Fake()

    async def check(pool: SearchPool) -> tuple[str, str]:
        await pool.bound("d")
        assert await asyncio.to_thread(store.free.wait, 30)  # the look-up had it loaded; then somebody releases it
        store.free.clear()
        first = await pool.check("d")
        assert await asyncio.to_thread(store.free.wait, 30)  # loaded in the background
        monkeypatch.setattr(store, "is_loaded", lambda name, timeout_s: time.sleep(1) or True)
        return first, await pool.check("d")

    first, slow = using(lambda: store, check)
    assert first == "collection c is not loaded; loading it"
    assert slow == "it did not answer within 0.3 s"
