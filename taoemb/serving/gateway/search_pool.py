"""The vector store for an event loop: MilvusStore blocks, so its searches run in a few threads with a deadline.

Each arm has threads of its own, and looking a release up, checks and loads have theirs: what hangs for one arm takes
nothing from the other. A release is looked up once however many searches wait for it, and never loaded on their way.
The store opens in the background and tries until it can, because a Milvus Lite file is held by an older process for
some seconds during a restart; searches wait meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, get_args

import numpy as np

from taoemb.errors import InputError, TaoembError
from taoemb.retrieval.milvus import Hit, NotLoaded
from taoemb.retrieval.registry import ReleaseEntry
from taoemb.serving.gateway.arms import ArmFailure
from taoemb.serving.gateway.rests import Rests
from taoemb.serving.traffic import ArmName

REOPEN_S = 0.2
CHECK_S = 1.5  # how long a check of readiness may wait for the store
REASK_S = 1.0  # a release that was not bound is looked up again after this
_LOOK_UPS = 4  # releases looked up at once
_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Store(Protocol):
    """What a search needs of MilvusStore."""

    def binding(self, release_digest: str, *, timeout_s: float | None = None) -> ReleaseEntry: ...

    def fields(
        self, name: str, item_encoder_digest: str, *, timeout_s: float | None = None
    ) -> frozenset[str] | None: ...

    def search(
        self, vectors_QD: np.ndarray, release_digest: str, k: int, filter: str = "", *, timeout_s: float | None = None
    ) -> list[list[Hit]]: ...

    def is_loaded(self, name: str, *, timeout_s: float | None = None) -> bool: ...

    def load(self, name: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Bound:
    """What a release is bound to."""

    collection: str
    fields: frozenset[str]
    dimension: int | None


class SearchPool:
    """One open store and the threads that wait for it. All methods are for one event loop."""

    def __init__(self, open_store: Callable[[], Store], threads: int, timeout_s: float) -> None:
        """`threads` an arm; `timeout_s` bounds each search and each look-up."""
        self._open_store, self._timeout_s = open_store, timeout_s
        self._threads = {arm: _threads(threads, arm) for arm in get_args(ArmName)}
        self._looking, self._checking, self._loads = (
            _threads(_LOOK_UPS, "look"),
            _threads(2, "check"),
            _threads(2, "load"),
        )
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._store: asyncio.Future[Store] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._bound: dict[str, Bound] = {}
        self._unbound: dict[str, tuple[float, str]] = {}
        self._look_ups: dict[str, asyncio.Task[Bound]] = {}
        self._rests = Rests()
        self.problem = "not opened yet"

    @property
    def is_open(self) -> bool:
        """Whether searches can start at once."""
        return self._store is not None and self._store.done()

    def start(self) -> None:
        """Begin to open the store."""
        self._store = asyncio.get_running_loop().create_future()
        self._opening = asyncio.create_task(self._open(self._store))

    async def wait(self, seconds: float) -> None:
        """Return when the store is open, or after `seconds`."""
        if self._store is not None:
            await asyncio.wait([self._store], timeout=seconds)

    async def close(self) -> None:
        """Close the store, which gives a Milvus Lite file free; a store that hangs is left alone after a while."""
        if self._opening is not None:
            self._opening.cancel()
        if self._store is not None and self._store.done() and not self._store.cancelled():
            closing = asyncio.get_running_loop().run_in_executor(self._checking, self._store.result().close)
            await asyncio.wait([closing], timeout=self._timeout_s)
        for threads in (*self._threads.values(), self._looking, self._checking, self._loads):
            threads.shutdown(wait=False, cancel_futures=True)

    def refuse_resting(self, digest: str) -> None:
        """Raises ArmFailure while a release rests whose look-up or search took too long a moment ago."""
        if self._rests.left_s(digest):
            raise ArmFailure("cooling", f"the vector store was too slow for release {digest[:16]} a moment ago")

    async def bound(self, digest: str) -> Bound:
        """The collection of a release. Raises ArmFailure when it is not bound, or the store does not answer."""
        known = self._bound.get(digest)
        if known is not None:
            return known
        now = asyncio.get_running_loop().time()
        until, why = self._unbound.get(digest, (now, ""))
        if until > now:
            raise ArmFailure("unbound", why)
        return await self._in_time(asyncio.shield(self._looking_up(digest)), digest)

    def prepare(self, digest: str) -> None:
        """Look a release up and load it in the background, before anybody searches with it."""
        if digest not in self._bound:
            self._looking_up(digest)

    async def search(
        self, vectors_1D: np.ndarray, digest: str, k: int, filter: str, arm: ArmName = "control"
    ) -> list[Hit]:
        """The `k` nearest items in the collection that the release is bound to. Raises ArmFailure.

        The control waits for a collection that is being loaded, having nobody who would answer for it.
        """
        store = await self._opened()
        loading = self._loading.get(self._bound[digest].collection) if digest in self._bound else None
        if loading is not None and arm == "control":
            await self._in_time(asyncio.shield(loading), digest)
        running = asyncio.get_running_loop().run_in_executor(
            self._threads[arm], lambda: store.search(vectors_1D, digest, k, filter, timeout_s=self._timeout_s)
        )
        try:
            [hits] = await self._in_time(running, digest)
        except NotLoaded as error:
            self._load(store, self._bound[digest].collection if digest in self._bound else "")
            raise ArmFailure("search", f"{error}; loading it") from None
        except TaoembError as error:
            raise ArmFailure("search", str(error)) from None
        self._rests.worked(digest)
        return hits

    async def check(self, digest: str) -> str:
        """What keeps the store from searching for a release right now; empty when nothing does.

        A collection that was released is loaded again, whether anybody searches or not.
        """
        try:
            async with asyncio.timeout(CHECK_S):
                store, bound = await self._opened(), await self.bound(digest)
                asked = asyncio.get_running_loop().run_in_executor(
                    self._checking, lambda: store.is_loaded(bound.collection, timeout_s=CHECK_S)
                )
                if await asked:
                    return ""
        except TimeoutError:
            return f"it did not answer within {CHECK_S:g} s"
        except (ArmFailure, TaoembError) as failure:
            return str(failure)
        self._load(store, bound.collection)
        return f"collection {bound.collection} is not loaded; loading it"

    def _load(self, store: Store, collection: str) -> None:
        """Load a collection in the background; nothing when that is under way."""
        if not collection or collection in self._loading:
            return
        _log.warning("collection %s is not loaded; loading it", collection)
        task = asyncio.get_running_loop().create_task(self._loaded(store, collection))
        self._loading[collection] = task

    async def _loaded(self, store: Store, collection: str) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._loads, store.load, collection)
        except TaoembError as error:
            _log.warning("%s", error)
        finally:
            del self._loading[collection]

    async def _opened(self) -> Store:
        if self._store is None:
            raise ArmFailure("search", "the vector store is closed")
        if self._store.done():
            return self._store.result()
        try:
            return await asyncio.wait_for(asyncio.shield(self._store), self._timeout_s)
        except TimeoutError:
            raise ArmFailure("search", self.problem) from None

    def _looking_up(self, digest: str) -> asyncio.Task[Bound]:
        """The look-up under way, or a new one."""
        look_up = self._look_ups.get(digest)
        if look_up is None:
            look_up = asyncio.get_running_loop().create_task(self._look_up(digest))
            look_up.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting
            self._look_ups[digest] = look_up
        return look_up

    async def _look_up(self, digest: str) -> Bound:
        """Ends when the store has answered, however long that takes: meanwhile nobody asks it the same."""
        try:
            store = await self._opened()
            bound, loaded = await asyncio.get_running_loop().run_in_executor(
                self._looking, lambda: _read_binding(store, digest, self._timeout_s)
            )
        except InputError as error:
            self._unbound = {digest: (asyncio.get_running_loop().time() + REASK_S, str(error))}
            raise ArmFailure("unbound", str(error)) from None
        except TaoembError as error:
            raise ArmFailure("search", str(error)) from None
        finally:
            del self._look_ups[digest]
        self._bound[digest] = bound
        if not loaded:
            self._load(store, bound.collection)
        return bound

    async def _in_time(self, work: asyncio.Future[Result], digest: str) -> Result:
        """Raises ArmFailure when it takes longer than `timeout_s`; the release rests then."""
        try:
            return await asyncio.wait_for(work, self._timeout_s)
        except TimeoutError:
            if self._rests.failed(digest):
                _log.warning("the vector store was too slow for release %s", digest[:16])
            raise ArmFailure("search", f"the vector store did not answer within {self._timeout_s:g} s") from None

    async def _open(self, opened: asyncio.Future[Store]) -> None:
        while True:
            try:
                store = await asyncio.to_thread(self._open_store)
            except TaoembError as error:
                if str(error) != self.problem:
                    self.problem = str(error)
                    _log.warning("%s", self.problem)
                await asyncio.sleep(REOPEN_S)
            else:
                opened.set_result(store)
                return


def _threads(most: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(most, thread_name_prefix=f"milvus-{name}")


def _read_binding(store: Store, digest: str, timeout_s: float) -> tuple[Bound, bool]:
    """What a release is bound to, and whether it is loaded."""
    entry = store.binding(digest, timeout_s=timeout_s)
    fields = store.fields(entry.collection, entry.item_encoder_digest, timeout_s=timeout_s) or frozenset()
    return Bound(entry.collection, fields, _dimension(entry.manifest)), store.is_loaded(
        entry.collection, timeout_s=timeout_s
    )


def _dimension(manifest: Mapping[str, Any]) -> int | None:
    found = manifest.get("dimension")
    return found if isinstance(found, int) else None
