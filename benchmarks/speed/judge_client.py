"""Our judge client against a loop of `openai` calls, on the same judge: pairs a second, cold and warm.

    python -m benchmarks.speed.judge_client [--quick]

The judge grades by a generated shop's rules, in a process of its own, and takes 50 ms for a request. What is asked are
Top-K groups of real queries by the packaged encoder, step after step as training asks. The plain contenders use the
`openai` package and the same prompts: a loop (a first notebook), and `asyncio.gather` behind a semaphore as wide as our
own client's (a second one). They answer the beginning of the stream only: their pace does not depend on what comes
later.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
from openai import AsyncOpenAI, OpenAI
from prometheus_client import CollectorRegistry

from benchmarks.judged_shop import Shop, generate, running_judge
from benchmarks.record import Aim, Ratio, Record, Table, in_turn, options, ratio
from taoemb.config import JudgeConfig, let_threads_sleep
from taoemb.encoder.model import Encoder
from taoemb.encoder.release import load_release
from taoemb.judge.answers import grade_probs
from taoemb.judge.client import JudgeClient
from taoemb.judge.prompt import build_messages, load_rubric

DELAY_S = 0.05
CONCURRENCY = 32
BATCH = 64
K = 16
QUERIES = 32  # a step
DRIFT = 0.1  # length of the random step that the query vectors make in each pass: a stand-in for training
ROUNDS, LOOP_PAIRS, GATHER_PAIRS = 3, 100, 1500
REQUESTS = 300  # of the comparison of HTTP clients
JSON = {"content-type": "application/json"}
ZIPF = 1.0
COLD, WARM = 10, 100  # the aims


@dataclass(frozen=True)
class Pair:
    """What is asked."""

    query: str
    item: dict[str, Any]


Steps = Sequence[Sequence[Pair]]


@dataclass(frozen=True)
class Done:
    """What one contender did in one round."""

    pairs: int
    seconds: float
    requests: int
    cached: int = 0
    asked: int = 0

    @property
    def rate(self) -> float:
        return self.pairs / self.seconds


def groups(shop: Shop, orders: dict[str, list[np.ndarray]], passes: int) -> dict[str, Steps]:
    """Top-K groups of the query rows of each step; the query vectors drift from pass to pass."""
    data, encoder = shop.data(), load_release(shop.release).query_encoder()
    items_ND = _item_vectors(encoder, data.items)
    rng, found = np.random.default_rng(0), {}
    for name, steps in orders.items():
        rows = np.unique(np.concatenate(steps))
        vectors = dict(zip(rows.tolist(), encoder.encode([data.queries.texts[r] for r in rows], "query"), strict=True))
        found[name] = []
        for number, step in enumerate(steps):
            if number and number % (len(steps) // passes) == 0:
                vectors = {row: _moved(vector, rng) for row, vector in vectors.items()}
            top_QK = np.argsort(-np.stack([vectors[int(row)] for row in step]) @ items_ND.T, axis=1)[:, :K]
            records = iter(data.items.records(top_QK.reshape(-1)))
            found[name].append([Pair(data.queries.texts[row], next(records)) for row in step for _ in range(K)])
    return found


def _item_vectors(encoder: Encoder, items: Any) -> np.ndarray:
    return encoder.encode(items.texts(np.arange(len(items)), encoder.item_template), "item")


def _moved(vector_D: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    step_D = rng.standard_normal(len(vector_D)).astype(np.float32)
    return vector_D + DRIFT * step_D / np.linalg.norm(step_D)


def orders(queries: int, steps: int) -> dict[str, list[np.ndarray]]:
    """Query rows of each step: as training draws them (each once a pass), and as a search log does (Zipf)."""
    rng = np.random.default_rng(0)
    passes = np.concatenate([rng.permutation(queries) for _ in range(steps * QUERIES // queries)])
    popularity = 1 / np.arange(1, queries + 1) ** ZIPF
    log = rng.choice(queries, steps * QUERIES, p=popularity / popularity.sum())
    return {"training order": np.split(passes, steps), "search log": np.split(log, steps)}


class Plain:
    """Calls of the `openai` package, one a pair, each answer read as ours are."""

    def __init__(self, url: str) -> None:
        self._url, self._rubric = url, load_rubric("v1")

    def loop(self, pairs: Sequence[Pair]) -> Done:
        """One after another."""
        with OpenAI(base_url=self._url, api_key="none") as client:
            self._read(client.chat.completions.create(**self._request(pairs[0])))  # connect
            started = time.perf_counter()
            for pair in pairs:
                self._read(client.chat.completions.create(**self._request(pair)))
            return Done(len(pairs), time.perf_counter() - started, len(pairs))

    def gather(self, pairs: Sequence[Pair]) -> Done:
        """All at once, CONCURRENCY of them under way."""
        return asyncio.run(self._gather(pairs))

    async def _gather(self, pairs: Sequence[Pair]) -> Done:
        slots = asyncio.Semaphore(CONCURRENCY)
        async with AsyncOpenAI(base_url=self._url, api_key="none") as client:

            async def ask(pair: Pair) -> None:
                async with slots:
                    self._read(await client.chat.completions.create(**self._request(pair)))

            await asyncio.gather(*map(ask, pairs[:CONCURRENCY]))  # connect
            started = time.perf_counter()
            await asyncio.gather(*map(ask, pairs))
            return Done(len(pairs), time.perf_counter() - started, len(pairs))

    def _request(self, pair: Pair) -> dict[str, Any]:
        messages = build_messages(self._rubric, pair.query, pair.item, 256)
        asked = {"model": "judge", "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}
        return asked | {"messages": messages}

    def _read(self, answer: Any) -> None:
        assert grade_probs(answer.choices[0].model_dump()) is not None


def ours(url: str, cache: Path, batch: int, steps: Steps) -> Done:
    """Our client, a call a step as strictly on-policy training makes them, with the cache file `cache`."""
    config = JudgeConfig(url=url, concurrency=CONCURRENCY, batch_size=batch, cache=cache)
    registry = CollectorRegistry()
    with JudgeClient(config, registry=registry) as client:
        assert client.release  # connect
        before, started = _requests(registry), time.perf_counter()
        judged = [client.grade([p.query for p in step], [p.item for p in step]) for step in steps]
        seconds = time.perf_counter() - started
    assert not sum(one.unanswered for one in judged)
    pairs, cached = sum(map(len, steps)), sum(one.cached for one in judged)
    return Done(pairs, seconds, _requests(registry) - before, cached, sum(one.asked for one in judged))


def _requests(registry: CollectorRegistry) -> int:
    samples = (sample for metric in registry.collect() for sample in metric.samples)
    return int(sum(sample.value for sample in samples if sample.name == "taoemb_judge_requests_total"))


class Contest:
    """Everybody in turn, round by round; each cold run has a cache file of its own, each warm one a full one."""

    def __init__(self, folder: Path, url: str, streams: dict[str, Steps]) -> None:
        self._folder, self._url = folder, url
        self._numbers = iter(range(10_000))
        first = [pair for step in next(iter(streams.values())) for pair in step]
        plain = Plain(url)
        self.contenders: dict[str, Callable[[], Done]] = {
            "loop of `openai` calls": partial(plain.loop, first[:LOOP_PAIRS]),
            "`openai` with asyncio.gather": partial(plain.gather, first[:GATHER_PAIRS]),
        }
        for name, steps in streams.items():
            full = folder / f"full {name}.sqlite"
            ours(url, full, BATCH, steps)
            self.contenders |= {
                f"ours cold, 1 a request, {name}": partial(self._cold, 1, steps),
                f"ours cold, {BATCH} a request, {name}": partial(self._cold, BATCH, steps),
                f"ours warm, {name}": partial(ours, url, full, 1, steps),
            }

    def _cold(self, batch: int, steps: Steps) -> Done:
        return ours(self._url, self._folder / f"cold {next(self._numbers)}.sqlite", batch, steps)

    def rounds(self, count: int) -> dict[str, list[Done]]:
        """What each did in each round."""
        found: dict[str, list[Done]] = {name: [] for name in self.contenders}

        def noting(name: str) -> Callable[[], float]:
            def run() -> float:
                found[name].append(self.contenders[name]())
                return found[name][-1].rate

            return run

        in_turn({name: noting(name) for name in self.contenders}, count)
        return found


def table(found: dict[str, list[Done]], record: Record) -> dict[str, Ratio]:
    """The table, and each contender's pace against the loop's."""
    base = [done.rate for done in found["loop of `openai` calls"]]
    ratios = {name: ratio([done.rate for done in each], base) for name, each in found.items()}
    rows = []
    for name, each in found.items():
        done = each[-1]
        rate = statistics.median(one.rate for one in each)
        removed = done.pairs - done.cached - done.asked if done.asked or done.cached else 0
        counts = [f"{count:,}" for count in (done.pairs, done.cached, removed, done.requests)]
        pace = f"{statistics.median(one.requests / one.seconds for one in each):,.0f}"
        rows.append([name, f"{rate:,.0f}", str(ratios[name]), *counts, pace])
    head = ["contender", "pairs/s", "against the loop", "pairs", "cached", "duplicates", "requests", "requests/s"]
    text = (
        f"Judge at {1000 * DELAY_S:.0f} ms a request on the same two cores, concurrency {CONCURRENCY}; Top-{K} groups "
        f"of {QUERIES} queries a step, a call a step. Training order: each query once a pass, the vectors drift "
        "between passes. Search log: queries drawn by popularity (Zipf), so that popular ones come again within a "
        "step. “Cached” counts judgments of earlier steps of the same run (cold) or of an earlier run (warm); "
        "“duplicates” are equal pairs within one call. Median of the rounds; ratios round by round."
    )
    record.tables.append(Table(f"Asking a judge of {1000 * DELAY_S:.0f} ms", head, rows, text))
    return ratios


def aims(ratios: dict[str, Ratio], name: str) -> list[Aim]:
    """The two aims, on the stream `name` that has the fewer duplicates."""
    tried = "The client's and the judge's own Python share two cores; see the requests a second in the table."
    return [
        Aim(
            f"Judge client, {case}: ≥ {least}× a loop of `openai` calls",
            str(found),
            found.median >= least,
            "" if found.median >= least else tried,
        )
        for case, least, found in (
            ("cold, one pair a request", COLD, ratios[f"ours cold, 1 a request, {name}"]),
            (f"cold, {BATCH} pairs a request", COLD, ratios[f"ours cold, {BATCH} a request, {name}"]),
            ("warm", WARM, ratios[f"ours warm, {name}"]),
        )
    ]


async def _all(bodies: Sequence[bytes], post: Callable[[bytes], Awaitable[Any]]) -> float:
    """Processor milliseconds of this process for one of `bodies`, CONCURRENCY of them under way."""
    slots = asyncio.Semaphore(CONCURRENCY)

    async def ask(body: bytes) -> None:
        async with slots:
            await post(body)

    await asyncio.gather(*map(ask, bodies[:CONCURRENCY]))  # connect
    started = time.process_time()
    await asyncio.gather(*map(ask, bodies))
    return 1000 * (time.process_time() - started) / len(bodies)


async def _by_httpx(url: str, bodies: Sequence[bytes]) -> float:
    limits = httpx.Limits(max_connections=CONCURRENCY + 1, max_keepalive_connections=CONCURRENCY)
    async with httpx.AsyncClient(limits=limits, trust_env=False, headers=JSON) as client:
        return await _all(bodies, lambda body: client.post(url, content=body))


async def _by_aiohttp(url: str, bodies: Sequence[bytes]) -> float:
    async with aiohttp.ClientSession(headers=JSON, cookie_jar=aiohttp.DummyCookieJar()) as client:

        async def post(body: bytes) -> bytes:
            async with client.post(url, data=body) as response:
                return await response.read()

        return await _all(bodies, post)


def transports(url: str, pairs: Sequence[Pair], rounds: int) -> Table:
    """What one request costs the interpreter, by the HTTP client that ours was and is built on."""
    rubric = load_rubric("v1")
    bodies = [json.dumps({"messages": build_messages(rubric, p.query, p.item, 256)}).encode() for p in pairs]
    route = f"{url}/chat/completions"
    found = in_turn(
        {
            "httpx (before)": lambda: asyncio.run(_by_httpx(route, bodies)),
            "aiohttp (now)": lambda: asyncio.run(_by_aiohttp(route, bodies)),
        },
        rounds,
    )
    against = {name: ratio(each, found["httpx (before)"]) for name, each in found.items()}
    rows = [[name, f"{statistics.median(each):.2f} ms", str(against[name])] for name, each in found.items()]
    text = f"{len(bodies)} requests, {CONCURRENCY} under way: processor time of the asking process alone."
    return Table(
        "One request's processor time in the client", ["HTTP client", "a request", "against before"], rows, text
    )


def main(quick: bool) -> None:
    """Measure, and keep what was found unless this is a quick try."""
    record = Record(__file__, "The judge client against plain `openai` calls")
    queries, steps, rounds = (64, 4, 1) if quick else (128, 12, ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shop = generate(folder, 600 if quick else 2000, queries)
        streams = groups(shop, orders(queries, steps), passes=steps * QUERIES // queries)
        with running_judge(shop, [DELAY_S]) as judge:
            url = judge.url(DELAY_S)
            found = Contest(folder, url, streams).rounds(rounds)
            pairs = [pair for step in streams["training order"] for pair in step][:REQUESTS]
            by_transport = transports(url, pairs, rounds)
    ratios = table(found, record)
    record.tables.append(by_transport)
    record.aims += aims(ratios, "training order")
    record.finish(save=not quick)


if __name__ == "__main__":
    let_threads_sleep()
    main(options(__doc__).parse_args().quick)
