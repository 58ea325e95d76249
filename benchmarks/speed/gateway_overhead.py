"""What the search gateway itself costs: searches whose encoder and vector store answer at once.

    python -m benchmarks.speed.gateway_overhead            # about 100 s; --quick tries it out and saves nothing

Everything else is real: the HTTP server, the assignment, the call of the encoder over HTTP with its digest check, the
reply, the recording of every page into SQLite. Requests come at random times (Poisson, an open loop: a slow reply holds
back no other) over kept connections, from a process of its own. The gateway of today and the one of an older commit
take turns. Milliseconds of

- server: in the gateway's process, from the first byte of a request read to the last byte of its reply written. It
  includes the calls of the stub encoder, but not what the client and the kernel cost;
- client: the whole round trip, from when the request was due;
- encoder: the round trip to the stub encoder alone, called directly in the same way: what HTTP costs here anyway.
"""

import argparse
import base64
import contextlib
import io
import json
import multiprocessing
import os
import socket
import statistics
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn

from benchmarks.record import Aim, Record, Table, in_turn, options
from benchmarks.speed.http_load import Generator, Load
from taoemb.config import EventsConfig, GatewayConfig, MilvusConfig
from taoemb.retrieval.milvus import Hit
from taoemb.retrieval.registry import ReleaseEntry
from taoemb.serving.gateway.process import DrainingProtocol, GatewayApp, serve
from taoemb.serving.traffic import Arm, Traffic, write_traffic

RELEASE, DIMENSION = "a" * 64, 384
FIELDS = frozenset(("title", "brand", "category", "price"))
HITS = [Hit(f"item{n}", 1 - n / 100, f"title of item {n}", "acme", "home/sofas", float(n)) for n in range(10)]
BEFORE = "0055725"
"""The commit to compare with; without git, or this commit, the table has no such row."""
ROOT = Path(__file__).resolve().parent.parent.parent
RATES = (50,)
AIM_MS = 3.0
NOTED = "milliseconds"
SEARCH = json.dumps({"query": "red oak sofa", "user": "somebody"}).encode()
EMBED = json.dumps({"model": "encoder", "input": "red oak sofa", "encoding_format": "base64"}).encode()
TRIED = (
    "Done: plain searches go past FastAPI's routing and dependencies, the page is written without models, the garbage "
    "collector skips what start-up made. What is left at p99 are moments at which the processes (client, gateway, stub "
    "encoder) and the thread that writes rows to the database want the same core or the interpreter."
)


class InstantStore:
    """Answers every search at once."""

    def __init__(self, config: MilvusConfig) -> None:
        pass

    def binding(self, release_digest: str, *, timeout_s: float | None = None) -> ReleaseEntry:
        return ReleaseEntry(release_digest, "b", "items", "taoemb", "active", "", 10, "")

    def fields(self, name: str, item_encoder_digest: str, *, timeout_s: float | None = None) -> frozenset[str]:
        return FIELDS

    def search(
        self, vectors_QD: np.ndarray, release_digest: str, k: int, filter: str = "", *, timeout_s: float | None = None
    ) -> list[list[Hit]]:
        return [HITS[:k]]

    def is_loaded(self, name: str, *, timeout_s: float | None = None) -> bool:
        return True

    def load(self, name: str) -> None:
        pass

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


@dataclass(frozen=True)
class TimedApp(GatewayApp):
    """The gateway's application in a worker that notes what each request took it."""

    noted: Path | None = None
    """File of float32 milliseconds; a value is added once a reply is written."""

    def __call__(self):
        if self.noted is not None:
            _note_times(os.open(self.noted, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        return super().__call__()


def _note_times(file: int) -> None:
    began: dict[DrainingProtocol, float] = {}
    read, written = DrainingProtocol.data_received, DrainingProtocol.on_response_complete

    def data_received(self, data: bytes) -> None:
        began.setdefault(self, time.perf_counter())
        read(self, data)

    def on_response_complete(self) -> None:
        took = time.perf_counter() - began.pop(self)
        os.write(file, struct.pack("<f", 1000 * took))
        written(self)

    DrainingProtocol.data_received = data_received
    DrainingProtocol.on_response_complete = on_response_complete


def run_gateway(folder: Path, port: int, encoder: int, workers: int) -> None:
    """The gateway, in two arms of the same stub."""
    arm = Arm(RELEASE, (f"http://127.0.0.1:{encoder}",))
    write_traffic(folder / "traffic.json", Traffic(arm, arm, 50.0, rollout="overhead", salt="salt"))
    app = TimedApp(
        GatewayConfig(traffic=str(folder / "traffic.json"), workers=workers),
        MilvusConfig(uri="http://nowhere:19530"),
        EventsConfig(url=f"sqlite:///{folder}/events.db", spool=folder / "spool"),
        open_store=InstantStore,
        noted=folder / NOTED,
    )
    serve(app, port=port)


@contextlib.contextmanager
def running(target, *arguments: object, port: int) -> Iterator[None]:
    """A process that listens on `port`."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    try:
        _wait_for(port, process.is_alive)
        yield
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def running_before(folder: Path, port: int, encoder: int) -> Iterator[bool]:
    """The gateway of the older commit, which is unpacked into `folder`; yields False when there is none."""
    packed = subprocess.run(["git", "archive", BEFORE, "taoemb"], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode != 0:
        yield False
        return
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tree:
        tree.extractall(folder, filter="data")
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.gateway_overhead",
        "--serve",
        str(folder),
        str(port),
        str(encoder),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # for benchmarks; taoemb is found in `folder` before
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, lambda: process.poll() is None)
        yield True
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, is_alive: Callable[[], bool]) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert is_alive()
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Round:
    """Milliseconds of the searches of one round."""

    server: np.ndarray
    client: np.ndarray


def search(generator: Generator, folder: Path, port: int, rate: float, seconds: float, seed: int) -> Round:
    """One round of a gateway that notes its times in `folder`."""
    at = (folder / NOTED).stat().st_size if (folder / NOTED).exists() else 0
    answered = generator.drive(Load(port, "/search", [SEARCH], rate, seconds, seed))
    time.sleep(0.1)
    return Round(np.frombuffer((folder / NOTED).read_bytes()[at:], dtype="<f4"), answered.latencies_ms)


def measure(rates: Sequence[int], rounds: int, seconds: float) -> tuple[dict[tuple[str, int], list[Round]], np.ndarray]:
    """Rounds by gateway and rate, and round trips to the encoder alone."""
    encoder, port, old_port = free_port(), free_port(), free_port()
    with contextlib.ExitStack() as stack:
        new, old = (Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2))
        generator = stack.enter_context(Generator())
        stack.enter_context(running(run_encoder, encoder, port=encoder))
        stack.enter_context(running(run_gateway, new, port, encoder, 1, port=port))
        gateways = {"after": (new, port)}
        if stack.enter_context(running_before(old, old_port, encoder)):
            gateways = {f"before ({BEFORE})": (old, old_port), **gateways}
        for where in gateways.values():
            search(generator, *where, 50, 3, 99)
        found: dict[tuple[str, int], list[Round]] = {}
        for rate in rates:
            turns = {
                name: lambda where=where, rate=rate: search(generator, *where, rate, seconds, 0)
                for name, where in gateways.items()
            }
            for name, each in in_turn(turns, rounds).items():
                found[name, rate] = each
        direct = generator.drive(Load(encoder, "/openai/v1/embeddings", [EMBED], rates[0], seconds))
    return found, direct.latencies_ms


def main(quick: bool) -> None:
    """Measure, print and save."""
    record = Record(__file__, "What the search gateway costs")
    found, direct = measure(RATES[:1] if quick else RATES, *((2, 2.0) if quick else (3, 6.0)))
    rows = []
    for (name, rate), rounds in found.items():
        for side in ("server", "client"):
            times = np.concatenate([vars(one)[side] for one in rounds])
            rows.append([name, str(rate), side, *_quantiles(times), f"{len(times):,}"])
    rows.append(["the stub encoder alone", str(RATES[0]), "client", *_quantiles(direct), f"{len(direct):,}"])
    text = (
        "Milliseconds; encoder and vector store answer at once. server: from the first byte read to the last byte "
        "written in the gateway's process, with its call of the stub encoder; client: the round trip from when the "
        "search was due. One worker; client, gateway and encoder share the cores."
    )
    head = ["gateway", "searches/s", "seen by", "p50", "p90", "p99", "searches"]
    record.tables.append(Table("Overhead of the search gateway", head, rows, text))
    p99 = [float(np.quantile(one.server, 0.99)) for one in found["after", RATES[0]]]
    seen = float(np.quantile(np.concatenate([one.client for one in found["after", RATES[0]]]), 0.99))
    median = statistics.median(p99)
    record.aims.append(
        Aim(
            f"Gateway: overhead p99 ≤ {AIM_MS:g} ms without encoder and Milvus ({RATES[0]} searches/s)",
            f"{median:.2f} ms [{min(p99):.2f}, {max(p99):.2f}] in the gateway; {seen:.2f} ms seen by the client",
            median <= AIM_MS,
            "" if median <= AIM_MS else TRIED,
        )
    )
    record.finish(save=not quick)


def _quantiles(times: np.ndarray) -> list[str]:
    return [f"{value:.2f}" for value in np.quantile(times, [0.5, 0.9, 0.99])]


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--serve", nargs=3, metavar=("FOLDER", "PORT", "ENCODER"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.serve is not None:
        run_gateway(Path(told.serve[0]), int(told.serve[1]), int(told.serve[2]), 1)
    else:
        main(told.quick)
