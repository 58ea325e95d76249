"""What a Retrieval-GRPO step costs beyond the same step without a judge, and where its time goes.

    python -m benchmarks.speed.grpo_step [--quick]

One run for each choice of towers, on a shop of 5,000 items, with judging overlapped (staleness 1). The judge changes
from block to block of its steps, in turn, so that weights, memory and threads are the same for all: no judge (rewards
known at once, without text or thread), a judge of 50 ms a request whose answers are all in the cache, and the same
judge with an empty cache, asked 64 pairs and one pair a request. Retrieval, BM25 exclusivity and quality are part of
every step. The first steps of a block only fill the pipeline; before a block, what the one before it asked is waited
for.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks.judged_shop import JudgeProcess, NoJudge, Shop, Switch, generate, nearest, objective, running_judge
from benchmarks.record import Aim, Ratio, Record, Table, in_turn, options, ratio
from taoemb.config import JudgeConfig, let_threads_sleep
from taoemb.judge.client import JudgeClient
from taoemb.training.distributed import Ranks, joined_ranks
from taoemb.training.grpo import RetrievalGRPO
from taoemb.training.sampling import QueryOrder

DELAY_S = 0.05
BATCH = 64
FILL, MEASURED = 2, 2  # steps of a block
MARGIN = 8  # items beyond K that a warm cache holds of each query: bf16 orders near-equal scores its own way
ROUNDS = 3
PARTS = ("encode", "topk", "judge_wait", "forward", "loss", "backward", "optimiser")
NO_JUDGE, WARM = "no judge", "warm cache"
COLD_BATCH, COLD_SINGLE = f"cold, {BATCH} pairs a request", "cold, 1 pair a request"
AIMS = {WARM: 1.15, COLD_BATCH: 1.5, COLD_SINGLE: 1.5}
TRIED = (
    "Tried: aiohttp instead of httpx (a twentieth of the interpreter's time a request); asking before the old scores "
    "are computed. The judge's own Python runs on the cores of the training step, which a judge elsewhere would not. "
    "One pair a request hides only pairs ≤ concurrency × step time / latency; above that the step waits whatever the "
    "client does: use the batch route, or raise judge.concurrency."
)


@dataclass(frozen=True)
class Size:
    """The groups of a step."""

    towers: str
    queries: int
    k: int
    concurrency: int = 32

    @property
    def pairs(self) -> int:
        return self.queries * self.k


SIZES = (Size("query", 64, 32), Size("both", 16, 16))


@dataclass
class Block:
    """The measured steps of one contender in one run."""

    seconds: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    asked: float = 0.0
    hits: list[float] = field(default_factory=list)


class Run:
    """One run of Retrieval-GRPO whose judge changes from block to block."""

    def __init__(
        self, shop: Shop, ranks: Ranks, judge: JudgeProcess, size: Size, nearest_QK: np.ndarray, folder: Path
    ) -> None:
        self._folder, self._judge, self._size, self._nearest_QK = folder, judge, size, nearest_QK
        self._data, self._step, self._numbers = shop.data(), 0, iter(range(10_000))
        self._order = QueryOrder(np.arange(len(self._data.queries)), seed=0)
        self._switch = Switch(NoJudge(size.pairs))
        settings = [f"grpo.towers={size.towers}", f"grpo.queries={size.queries}", f"grpo.k={size.k}"]
        settings += ["grpo.steps=1000", "grpo.refresh=100000", "grpo.optim.lr=1e-7", "engine.checkpoint_every=100000"]
        self._objective: RetrievalGRPO = objective(shop, ranks, self._switch, settings, folder)
        self.found: dict[str, Block] = {name: Block() for name in (NO_JUDGE, WARM, COLD_BATCH, COLD_SINGLE)}

    def contenders(self) -> dict[str, Callable[[], float]]:
        """Each runs a block and gives the median seconds of its steps."""
        return {
            NO_JUDGE: lambda: self._block(NO_JUDGE),
            WARM: lambda: self._judged(WARM, BATCH),
            COLD_BATCH: lambda: self._judged(COLD_BATCH, BATCH),
            COLD_SINGLE: lambda: self._judged(COLD_SINGLE, 1),
        }

    def _judged(self, name: str, batch: int) -> float:
        cache = self._folder / f"{next(self._numbers)}.sqlite"
        if name == WARM:
            self._fill(cache)
        with self._client(DELAY_S, batch, cache) as client:
            before, self._switch.client = self._switch.client, client
            seconds = self._block(name)
            self._switch.client = before
        return seconds

    def _block(self, name: str) -> float:
        found, seconds = self.found[name], []
        for number in range(FILL + MEASURED):
            started = time.perf_counter()
            metrics = self._objective.step(self._step)
            took = time.perf_counter() - started
            self._step += 1
            if number >= FILL:
                seconds.append(took)
                found.parts.append({part: metrics.get(f"time/{part}", 0.0) for part in PARTS})
                found.hits.append(metrics["judge_hit_rate"])
                found.asked += metrics["judge_asked"] / MEASURED
        self._switch.settle()
        found.seconds += seconds
        return statistics.median(seconds)

    def _fill(self, cache: Path) -> None:
        """Judge what the next steps will retrieve: the policy hardly moves at this learning rate."""
        steps = range(self._step, self._step + FILL + MEASURED + 1)
        rows = np.concatenate([self._order.at(step, self._size.queries) for step in steps])
        items_QK = self._nearest_QK[rows, : self._size.k + MARGIN]
        with self._client(0.0, 256, cache) as client:
            texts = [self._data.queries.texts[row] for row in rows for _ in range(items_QK.shape[1])]
            client.grade(texts, self._data.items.records(items_QK.reshape(-1)))

    @contextmanager
    def _client(self, delay_s: float, batch: int, cache: Path) -> Iterator[JudgeClient]:
        url = self._judge.url(delay_s)
        config = JudgeConfig(url=url, batch_size=batch, concurrency=self._size.concurrency, cache=cache)
        with JudgeClient(config, registry=CollectorRegistry()) as client:
            yield client

    def close(self) -> None:
        """Stop scoring."""
        self._objective.close()


def report(record: Record, size: Size, found: dict[str, Block], medians: dict[str, list[float]]) -> None:
    """One table of parts and ratios for a choice of towers, and its aims."""
    ratios = {name: ratio(seconds, medians[NO_JUDGE]) for name, seconds in medians.items()}
    rows = [_row(name, block, ratios[name], size) for name, block in found.items()]
    head = ["judge", "step", "against no judge", *PARTS, "from the cache"]
    text = (
        f"{size.queries} queries × Top-{size.k} = {size.pairs:,} pairs a step, staleness 1, judge "
        f"{1000 * DELAY_S:.0f} ms a request, concurrency {size.concurrency}. Milliseconds, medians over the measured "
        f"steps; ratios block by block. {_least(size)}"
    )
    record.tables.append(Table(f"A Retrieval-GRPO step, towers: {size.towers}", head, rows, text))
    for name, most in AIMS.items():
        aim = f"Retrieval-GRPO step, towers {size.towers}, {name}: ≤ {most}× a step without a judge"
        met = ratios[name].median <= most
        record.aims.append(Aim(aim, str(ratios[name]), met, "" if met else TRIED))


def _row(name: str, block: Block, against: Ratio, size: Size) -> list[str]:
    parts = [statistics.median(step[part] for step in block.parts) for part in PARTS]
    milliseconds = [f"{1000 * value:,.0f}" for value in (statistics.median(block.seconds), *parts)]
    hits = "" if name == NO_JUDGE else f"{statistics.mean(block.hits):.0%}"
    return [name, milliseconds[0], str(against), *milliseconds[1:], hits]


def _least(size: Size) -> str:
    """What latency alone asks of a step that sends every pair by itself."""
    least = size.pairs / size.concurrency * DELAY_S
    return f"One pair a request, latency alone takes {1000 * least:,.0f} ms for the pairs of a step."


def main(quick: bool) -> None:
    """Measure both choices of towers, and keep what was found unless this is a quick try."""
    record = Record(__file__, "What judging adds to a Retrieval-GRPO step")
    items, rounds = (400, 1) if quick else (5000, ROUNDS)
    sizes = (Size("query", 8, 8), Size("both", 4, 8)) if quick else SIZES
    with tempfile.TemporaryDirectory() as name, joined_ranks() as ranks:
        shop = generate(Path(name), items, 200 if quick else 2000)
        nearest_QK = nearest(shop, max(size.k for size in sizes) + MARGIN)
        with running_judge(shop, [0.0, DELAY_S]) as judge:
            for size in sizes:
                run = Run(shop, ranks, judge, size, nearest_QK, Path(name) / size.towers)
                contenders = run.contenders()
                contenders[NO_JUDGE]()  # warm up
                run.found[NO_JUDGE] = Block()
                medians = in_turn(contenders, rounds)
                run.close()
                report(record, size, run.found, medians)
    record.finish(save=not quick)


if __name__ == "__main__":
    quick = options(__doc__).parse_args().quick
    let_threads_sleep()
    main(quick)
