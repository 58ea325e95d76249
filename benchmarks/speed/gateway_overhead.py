"""What the search gateway itself costs: searches whose encoder and vector store answer at once.

    python benchmarks/speed/gateway_overhead.py --rate 50 --seconds 30

Everything else is real: the HTTP server, the assignment, the call of the encoder over HTTP with its digest check, the
reply, the recording of every page into SQLite. Requests come at random times (Poisson, an open loop: a slow reply holds
back no other) over kept connections, from this process. Printed are quantiles in milliseconds of

- own: time inside the gateway that is neither the encoder's nor the store's (from the reply's timings);
- gateway: the whole round trip, seen by the client;
- encoder: the round trip to the stub encoder alone, called directly in the same way: what HTTP costs here anyway.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import multiprocessing
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import uvicorn

from taoemb.config import EventsConfig, GatewayConfig, MilvusConfig
from taoemb.retrieval.milvus import Hit
from taoemb.retrieval.registry import ReleaseEntry
from taoemb.serving.gateway.process import GatewayApp, serve
from taoemb.serving.traffic import Arm, Traffic, write_traffic

RELEASE, DIMENSION = "a" * 64, 384
FIELDS = frozenset(("title", "brand", "category", "price"))
HITS = [Hit(f"item{n}", 1 - n / 100, f"title of item {n}", "acme", "home/sofas", float(n)) for n in range(10)]
Times = list[float]


class InstantStore:
    """Answers every search at once."""

    def __init__(self, config: MilvusConfig) -> None:
        pass

    def binding(self, release_digest: str) -> ReleaseEntry:
        return ReleaseEntry(release_digest, "b", "items", "taoemb", "active", "", 10, "")

    def fields(self, name: str, item_encoder_digest: str) -> frozenset[str]:
        return FIELDS

    def search(
        self, vectors_QD: np.ndarray, release_digest: str, k: int, filter: str = "", *, timeout_s: float | None = None
    ) -> list[list[Hit]]:
        return [HITS[:k]]

    def close(self) -> None:
        pass


def run_encoder(port: int) -> None:
    """An encoder that answers one vector at once."""
    vector = base64.b64encode(np.ones(DIMENSION, dtype="<f4").tobytes()).decode()
    body = json.dumps({"data": [{"index": 0, "embedding": vector}], "release": RELEASE}).encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"x-taoemb-release", RELEASE.encode())]

    async def app(scope, receive, send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, port=port, log_level="error", access_log=False, lifespan="off", timeout_keep_alive=600)


def run_gateway(folder: Path, port: int, encoder: int, workers: int) -> None:
    """The gateway, in two arms of the same stub."""
    arm = Arm(RELEASE, (f"http://127.0.0.1:{encoder}",))
    write_traffic(folder / "traffic.json", Traffic(arm, arm, 50.0, rollout="overhead", salt="salt"))
    app = GatewayApp(
        GatewayConfig(traffic=str(folder / "traffic.json"), workers=workers),
        MilvusConfig(uri="http://nowhere:19530"),
        EventsConfig(url=f"sqlite:///{folder}/events.db", spool=folder / "spool"),
        open_store=InstantStore,
    )
    serve(app, port=port)


class Client:
    """A lean HTTP client: what it costs itself must not hide what is measured."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._head = port, f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> bytes:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"{self._head}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith((b"http/1.1 200", b"http/1.1 202")), head
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        reply = await reader.readexactly(length)
        self._idle.append((reader, writer))
        return reply


async def measure(client: Client, body: bytes, rate: float, seconds: float) -> tuple[Times, list[bytes]]:
    """Round trips (ms) of requests that arrive at `rate` a second, and the replies."""
    rng, times, replies = random.Random(0), [], []

    async def ask() -> None:
        began = time.perf_counter()
        replies.append(await client.post(body))
        times.append(1000 * (time.perf_counter() - began))

    async with asyncio.TaskGroup() as group:
        end = due = time.perf_counter()
        end += seconds
        while due < end:
            due += rng.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(ask())
    return times, replies


@contextlib.contextmanager
def running(target, *arguments: object, port: int) -> Iterator[None]:
    """A process that listens on `port`."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert process.is_alive()
            time.sleep(0.05)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def line(name: str, times: Times) -> str:
    """Quantiles of a list of milliseconds."""
    p50, p90, p99 = np.quantile(times, [0.5, 0.9, 0.99])
    return f"{name:8} p50 {p50:6.2f}  p90 {p90:6.2f}  p99 {p99:6.2f}  ({len(times):,} requests)"


async def main(arguments: argparse.Namespace) -> None:
    encoder_port, port = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(run_encoder, encoder_port, port=encoder_port),
        running(run_gateway, Path(folder), port, encoder_port, arguments.workers, port=port),
    ):
        search = json.dumps({"query": "red oak sofa", "user": "somebody"}).encode()
        embed = json.dumps({"model": "encoder", "input": "red oak sofa", "encoding_format": "base64"}).encode()
        gateway, encoder = Client(port, "/search"), Client(encoder_port, "/openai/v1/embeddings")
        for client, body in ((gateway, search), (encoder, embed)):
            await measure(client, body, arguments.rate, 3)
        times, replies = await measure(gateway, search, arguments.rate, arguments.seconds)
        direct, _ = await measure(encoder, embed, arguments.rate, arguments.seconds)
    parts = [json.loads(reply)["timings"] for reply in replies]
    print(line("own", [one["total_ms"] - one["encoder_ms"] - one["search_ms"] for one in parts]))
    print(line("gateway", times))
    print(line("encoder", direct))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50, help="Searches a second.")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, default=1)
    asyncio.run(main(parser.parse_args()))
