"""A generated shop, a judge by its rules in a process of its own, and training steps on it: for benchmarks of judging.

The judge answers at once or after a set delay, so that what is measured is the client and the training loop, not a
model. It runs on the same machine: what its own Python costs is counted against the contender that asks it.
"""

import contextlib
import multiprocessing
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from taoemb.config import EncoderConfig, load_config
from taoemb.data.dataset import Dataset, open_dataset
from taoemb.data.synth import synthesise
from taoemb.data.truth import Truth
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import load_release, save_release
from taoemb.jobs.local import free_port
from taoemb.judge.client import JudgeClient, Judged
from taoemb.judge.rules import RuleJudge
from taoemb.training.checkpoint import RunFolder
from taoemb.training.context import Context, RunArguments
from taoemb.training.distributed import Ranks
from taoemb.training.grpo import RetrievalGRPO


@dataclass(frozen=True)
class Shop:
    """A generated shop and the packaged encoder as the release that training starts from."""

    root: Path
    release: Path

    def data(self) -> Dataset:
        """Items, queries and pairs."""
        return open_dataset(self.root, need=("items", "queries", "pairs"))


def generate(folder: Path, items: int, queries: int) -> Shop:
    """A shop of that size in `folder`, and the release, which reads titles."""
    synthesise(folder / "shop", items, queries, seed=1)
    release = save_release(folder / "start", load_encoder(EncoderConfig(item_template="{title}")))
    return Shop(folder / "shop", release.path)


def serve(root: Path, port: int, delays_s: Sequence[float]) -> None:
    """Serve the rules of a shop, once for each delay; every query is graded beforehand."""
    truth = Truth(open_dataset(root, need=("items", "queries")))
    for text in truth.data.queries.texts:
        truth.grades(text)
    routes = [Mount(_path(delay_s), RuleJudge(truth, delay_s=delay_s).application()) for delay_s in delays_s]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1)


def _path(delay_s: float) -> str:
    return f"/{1000 * delay_s:.0f}ms"


@dataclass
class JudgeProcess:
    """A judge that can be killed and started again on its port."""

    shop: Shop
    delays_s: Sequence[float]
    port: int = field(default_factory=free_port)
    process: Any = None
    start_s: float = 0.0
    """Seconds that the last start took until it listened."""
    _started: float = 0.0

    def start(self) -> None:
        """Start it; it answers some seconds later (see :meth:`wait`)."""
        self._started = time.perf_counter()
        arguments = (self.shop.root, self.port, self.delays_s)
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=arguments, daemon=True)
        self.process.start()

    def wait(self) -> None:
        """Until it listens."""
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                self.start_s = time.perf_counter() - self._started
                return
            assert self.process.is_alive(), "the judge did not start"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a lost node would: connections are refused from now on."""
        self.process.kill()
        self.process.join()

    def url(self, delay_s: float) -> str:
        """Base URL of the judge that takes `delay_s` for a request."""
        return f"http://127.0.0.1:{self.port}{_path(delay_s)}/v1"


@contextlib.contextmanager
def running_judge(shop: Shop, delays_s: Sequence[float]) -> Iterator[JudgeProcess]:
    """A judge for the time of the block."""
    judge = JudgeProcess(shop, delays_s)
    judge.start()
    judge.wait()
    try:
        yield judge
    finally:
        judge.kill()


class NoJudge:
    """Stands for a judge client where rewards are known at once: numbers drawn beforehand, no text, no thread."""

    release = "none"

    def __init__(self, pairs: int) -> None:
        """`pairs` is the number asked for at a time."""
        rng = np.random.default_rng(0)
        probs_P4 = np.eye(4, dtype=np.float32)[rng.integers(0, 4, pairs)]
        relevance = (probs_P4 @ (np.arange(4) / 3)).astype(np.float32)
        self._judged = Judged(relevance, probs_P4, pairs, 0, 0, 0.0, probs_P4.sum(1))

    def submit(self, queries: Sequence[str], items: Sequence[object]) -> Future[Judged]:
        """The same numbers every time."""
        answer: Future[Judged] = Future()
        answer.set_result(self._judged)
        return answer

    def close(self) -> None:
        """Nothing is open."""


class Switch:
    """Stands for the judge client of a run whose judge is changed between steps, so that contenders share the run."""

    release = "rules"

    def __init__(self, client: JudgeClient | NoJudge) -> None:
        self.client = client
        self._last: Future[Judged] | None = None

    def submit(self, queries: Sequence[str], items: Sequence[Any]) -> Future[Judged]:
        """Ask whoever judges now."""
        self._last = self.client.submit(queries, items)
        return self._last

    def settle(self) -> None:
        """Wait for what was asked last: the next contender must not pay for it."""
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        """Clients belong to whoever made them."""


def nearest(shop: Shop, k: int) -> np.ndarray:
    """Item rows (queries, k) that the starting release ranks first for each query."""
    data, encoder = shop.data(), load_release(shop.release).query_encoder()
    items_ND = encoder.encode(data.items.texts(np.arange(len(data.items)), encoder.item_template), "item")
    queries_QD = encoder.encode(data.queries.texts, "query")
    return np.argsort(-queries_QD @ items_ND.T, axis=1)[:, :k]


def objective(
    shop: Shop, ranks: Ranks, judge: JudgeClient | NoJudge | Switch, settings: Sequence[str], out: Path
) -> RetrievalGRPO:
    """Retrieval-GRPO on the shop with `judge`, ready for its first step."""
    config = load_config(None, list(settings))
    release = load_release(shop.release)
    arguments = RunArguments(shop.root, out, shop.release)
    context = Context(arguments, config, ranks, shop.data(), RunFolder(out), release)
    return RetrievalGRPO(context, config.grpo, judge, None)  # type: ignore[arg-type]
