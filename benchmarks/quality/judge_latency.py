"""How fast Retrieval-GRPO trains when its judge is slow, and what happens when it goes away.

    python -m benchmarks.quality.judge_latency [--quick]

One small run a staleness; the latency of the judge changes between blocks of its steps. Cold: an empty cache, so every
pair is asked; warm: the answers are there. Then a judge that is killed in the middle of a run and started again some
seconds later, as a node that is lost: the run must wait and go on with real answers only.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks.judged_shop import JudgeProcess, Shop, Switch, generate, nearest, objective, running_judge
from benchmarks.record import Aim, Record, Table, options
from taoemb.config import JudgeConfig, let_threads_sleep
from taoemb.judge.client import JudgeClient
from taoemb.training.distributed import Ranks, joined_ranks
from taoemb.training.grpo import RetrievalGRPO
from taoemb.training.sampling import QueryOrder

QUERIES, K, BATCH, CONCURRENCY = 16, 16, 64, 32
STALENESS = (0, 1, 2)
LATENCIES_S = (0.0, 0.05, 0.5, 2.0, 5.0)
STEPS = {0.0: 12, 0.05: 12, 0.5: 6, 2.0: 3, 5.0: 1}  # measured, at least; the first ones of a block fill the pipeline
MARGIN = 8  # items beyond K that a warm cache holds of each query
AWAY_S = 10.0
BEFORE = AFTER = 3.0  # seconds of training before the judge is killed, and after it is back


@dataclass(frozen=True)
class Pace:
    """Steps of one block."""

    step_s: float
    wait_s: float

    @property
    def queries_per_s(self) -> float:
        return QUERIES / self.step_s


class Run:
    """One run of Retrieval-GRPO whose judge changes from block to block."""

    def __init__(self, shop: Shop, ranks: Ranks, judge: JudgeProcess, staleness: int, folder: Path) -> None:
        self._judge, self._staleness, self._folder = judge, staleness, folder
        self._data, self._step, self._numbers = shop.data(), 0, iter(range(10_000))
        self._order = QueryOrder(np.arange(len(self._data.queries)), seed=0)
        self._switch: Switch | None = None
        self._gone_s = 0.0
        with self._client(0.0) as first:
            self._switch = Switch(first)
            self._objective: RetrievalGRPO = objective(shop, ranks, self._switch, _settings(staleness), folder)
            self._steps(3)  # warm up
            self._switch.settle()

    @contextmanager
    def _client(self, delay_s: float, cache: str | None = None) -> Iterator[JudgeClient]:
        config = JudgeConfig(
            url=self._judge.url(delay_s),
            batch_size=BATCH,
            concurrency=CONCURRENCY,
            cache=self._folder / (cache or f"cold {next(self._numbers)}.sqlite"),
        )
        with JudgeClient(config, registry=CollectorRegistry()) as client:
            yield client

    @contextmanager
    def _judged_by(self, client: JudgeClient) -> Iterator[None]:
        assert self._switch is not None
        self._switch.client = client
        try:
            yield
        finally:
            self._switch.settle()

    def _steps(self, count: int) -> list[dict[str, float]]:
        found = []
        for _ in range(count):
            started = time.perf_counter()
            metrics = self._objective.step(self._step)
            self._step += 1
            found.append(metrics | {"step_s": time.perf_counter() - started})
        return found

    def pace(self, delay_s: float, steps: int, nearest_QK: np.ndarray | None = None) -> Pace:
        """Train about `steps` measured steps; with `nearest_QK` their judgments are known beforehand.

        Waits come in turns of staleness + 1 steps, so whole turns are measured.
        """
        fill = self._staleness + 1
        steps = -(-steps // fill) * fill
        cache = None
        if nearest_QK is not None:
            cache = f"warm {next(self._numbers)}.sqlite"
            self._judge_beforehand(cache, steps + fill + self._staleness, nearest_QK)
        with self._client(delay_s, cache) as client, self._judged_by(client):
            found = self._steps(fill + steps)[fill:]
        return Pace(*(statistics.mean(one[name] for one in found) for name in ("step_s", "time/judge_wait")))

    def _judge_beforehand(self, cache: str, steps: int, nearest_QK: np.ndarray) -> None:
        rows = np.concatenate([self._order.at(self._step + ahead, QUERIES) for ahead in range(steps)])
        items_QK = nearest_QK[rows]
        with self._client(0.0, cache) as client:
            texts = [self._data.queries.texts[row] for row in rows for _ in range(items_QK.shape[1])]
            client.grade(texts, self._data.items.records(items_QK.reshape(-1)))

    def outage(self, delay_s: float) -> "Outage":
        """Kill the judge in the middle of the run, start it again, and train on."""
        with self._client(delay_s) as client, self._judged_by(client):
            self._steps(self._staleness + 1)
            before = self._train_for(BEFORE)
            away = threading.Thread(target=self._lose_the_judge)
            killed = time.perf_counter()
            away.start()
            during = self._steps(self._staleness + 1)
            while away.is_alive():
                during += self._steps(1)
            waited = time.perf_counter() - killed
            after = self._train_for(AFTER)
        everything = before + during + after
        return Outage(
            _rate(before),
            _rate(after),
            self._gone_s,
            waited,
            max(one["step_s"] for one in during),
            statistics.mean(one["unanswered_share"] for one in everything),
        )

    def _lose_the_judge(self) -> None:
        started = time.perf_counter()
        self._judge.kill()
        time.sleep(max(0.0, AWAY_S - self._judge.start_s))
        self._judge.start()
        self._judge.wait()
        self._gone_s = time.perf_counter() - started

    def _train_for(self, seconds: float) -> list[dict[str, float]]:
        started, found = time.perf_counter(), []
        while time.perf_counter() < started + seconds:
            found += self._steps(1)
        return found

    def close(self) -> None:
        """Stop scoring."""
        self._objective.close()


@dataclass(frozen=True)
class Outage:
    """A run whose judge went away; rates in steps a second, times in seconds."""

    before: float
    after: float
    gone_s: float
    stood_s: float
    longest_step_s: float
    unanswered: float


def _rate(found: Sequence[dict[str, float]]) -> float:
    return 1 / statistics.median(one["step_s"] for one in found)


def _settings(staleness: int) -> list[str]:
    sizes = [f"grpo.queries={QUERIES}", f"grpo.k={K}", f"grpo.staleness={staleness}", "grpo.steps=100000"]
    return [*sizes, "grpo.optim.lr=1e-7", "engine.checkpoint_every=1000000"]


def paces(run: Run, latencies_s: Sequence[float], most_steps: int, nearest_QK: np.ndarray) -> dict[str, list[Pace]]:
    """Cold and warm, at each latency."""
    return {
        "cold": [run.pace(delay_s, min(STEPS[delay_s], most_steps)) for delay_s in latencies_s],
        "warm": [run.pace(delay_s, min(STEPS[delay_s], most_steps), nearest_QK) for delay_s in latencies_s],
    }


def table(found: dict[tuple[int, str], list[Pace]], latencies_s: Sequence[float]) -> Table:
    """Queries a second, and the share of what the same run trains with a judge without latency."""
    rows = []
    for (staleness, cache), each in found.items():
        cells = [f"{pace.queries_per_s:.1f} ({pace.queries_per_s / each[0].queries_per_s:.0%})" for pace in each]
        rows.append([str(staleness), cache, *cells])
    head = ["staleness", "cache", *(f"{delay_s:g} s" for delay_s in latencies_s)]
    text = (
        f"Queries trained a second, and in brackets the share of the same run with a judge without latency. {QUERIES} "
        f"queries × Top-{K} a step, query tower, {BATCH} pairs a request, so that a step's {QUERIES * K} pairs are "
        f"{QUERIES * K // BATCH} requests under way at once. The judge's latency is added to its own work."
    )
    return Table("Training speed by judge latency (columns) and staleness", head, rows, text)


def waits(found: dict[tuple[int, str], list[Pace]], latencies_s: Sequence[float]) -> Table:
    """What a step waits for its judge, beside what the rule below it gives."""
    rows = []
    for (staleness, cache), each in found.items():
        if cache == "cold":
            compute_s = each[0].step_s - each[0].wait_s
            rule = [_least(delay_s, staleness, compute_s) for delay_s in latencies_s]
            cells = [f"{pace.wait_s:.2f} ({least:.2f})" for pace, least in zip(each, rule, strict=True)]
            rows.append([str(staleness), f"{compute_s:.2f}", *cells])
    head = ["staleness", "step without waiting, s", *(f"{delay_s:g} s" for delay_s in latencies_s)]
    text = (
        "Seconds that a step waits for its judge with a cold cache, and in brackets what the rule gives. Let C be the "
        "time of a step without waiting, s the staleness, L the latency of a request, and R the rounds of requests "
        "that a step's new pairs need, ⌈pairs / (judge.batch_size × judge.concurrency)⌉. The judge is hidden while "
        "R·L ≤ s·C; beyond, a step waits (R·L − s·C) / (s + 1) on average. So raise batch size and concurrency until "
        "R is 1, then staleness; the cache makes later passes over the same queries nearly free at any latency."
    )
    return Table("Seconds a step waits for its judge, cold cache", head, rows, text)


def _least(delay_s: float, staleness: int, compute_s: float) -> float:
    rounds = -(-QUERIES * K // (BATCH * CONCURRENCY))
    return max(0.0, (rounds * delay_s - staleness * compute_s) / (staleness + 1))


def outage_table(found: dict[int, Outage]) -> Table:
    """One row a staleness."""
    rows = [
        [
            str(staleness),
            f"{one.before:.2f}",
            f"{one.gone_s:.1f} s",
            f"{one.longest_step_s:.1f} s",
            f"{one.stood_s:.1f} s",
            f"{one.after:.2f}",
            f"{one.unanswered:.0%}",
        ]
        for staleness, one in found.items()
    ]
    head = [
        "staleness",
        "steps/s before",
        "judge away",
        "longest step",
        "killed until trained on",
        "steps/s after",
        "pairs left unanswered",
    ]
    text = (
        "The judge (50 ms a request, cold cache) is killed in the middle of the run and started again on its port. The "
        "run waits (judge.wait_s: 300 s) and asks again; no reward is invented. A judge that is back is found by a "
        "probe every 0.5 to 10 s, so a run may stand some seconds longer than its judge was away."
    )
    return Table(f"A judge that is away for about {AWAY_S:.0f} s", head, rows, text)


def main(quick: bool) -> None:
    """Measure, and keep what was found unless this is a quick try."""
    record = Record(__file__, "Training with a slow judge, or with one that goes away")
    latencies_s, most_steps, items = ((0.0, 0.05, 0.5), 3, 300) if quick else (LATENCIES_S, 100, 1000)
    speeds: dict[tuple[int, str], list[Pace]] = {}
    outages: dict[int, Outage] = {}
    with tempfile.TemporaryDirectory() as name, joined_ranks() as ranks:
        shop = generate(Path(name), items, 200 if quick else 1000)
        nearest_QK = nearest(shop, K + MARGIN)
        with running_judge(shop, latencies_s) as judge:
            for staleness in STALENESS:
                run = Run(shop, ranks, judge, staleness, Path(name) / str(staleness))
                speeds |= {
                    (staleness, cache): each for cache, each in paces(run, latencies_s, most_steps, nearest_QK).items()
                }
                if staleness == 1:
                    outages[staleness] = run.outage(0.05)
                run.close()
    record.tables += [table(speeds, latencies_s), waits(speeds, latencies_s), outage_table(outages)]
    invented = max(one.unanswered for one in outages.values())
    record.aims.append(
        Aim(
            f"A judge that is away for {AWAY_S:.0f} s in mid-run: the run waits and goes on, nothing invented",
            f"{len(outages)} of {len(outages)} runs went on; {invented:.0%} of the pairs left unanswered",
            invented == 0,
        )
    )
    record.finish(save=not quick)


if __name__ == "__main__":
    quick = options(__doc__).parse_args().quick
    let_threads_sleep()
    main(quick)
