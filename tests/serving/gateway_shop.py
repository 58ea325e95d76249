"""A tiny shop behind a real gateway: three releases in a real Milvus Lite, encoders that tests can break."""

import asyncio
import base64
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from taoemb.config import MilvusConfig
from taoemb.encoder.release import Release
from taoemb.retrieval.publish import publish
from taoemb.rollout.simulate.servers import LoopbackServer
from taoemb.serving.traffic import Arm, Traffic, write_traffic
from tests.judge.stub import free_port
from tests.retrieval.conftest import Releases, make_releases
from tests.retrieval.tiny_shop import shop, write_items

ITEMS = shop(90)
QUERIES = [
    f"{colour} {stuff} {kind}" for colour in ("red", "blue") for stuff in ("oak", "wool") for kind in ("sofa", "rug")
]
START_S = 120.0
TOKEN = "sesame"
TESTER = {"x-taoemb-tester": TOKEN}
"""Headers of a tester: pages then say where they are from."""


class StubEncoder:
    """Speaks the encoder server's wire contract with a release's real vectors; `fault` breaks it."""

    def __init__(self, release: Release) -> None:
        self.digest, self.fault, self.asked = release.manifest.digest, "", 0
        self._encoder, self._lock = release.query_encoder(), threading.Lock()
        self._vector = functools.lru_cache(4096)(self._encode)
        self.server = LoopbackServer(Starlette(routes=[Route("/openai/v1/embeddings", self._answer, methods=["POST"])]))

    @property
    def arm(self) -> Arm:
        return Arm(self.digest, (self.server.url,))

    def vector(self, query: str) -> np.ndarray:
        """What it answers, (D,)."""
        return np.frombuffer(base64.b64decode(self._vector(query)), dtype="<f4")

    def _encode(self, query: str) -> str:
        with self._lock:
            [vector] = self._encoder.encode([query], "query")
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        assert (body["model"], body["encoding_format"]) == ("encoder", "base64")
        self.asked += 1
        digest, embedding = self.digest, self._vector(body["input"])
        match self.fault:
            case "release":
                digest = "f" * 64
            case "status":
                return JSONResponse({"error": "broken"}, 500)
            case "text":
                return Response("hello", headers={"x-taoemb-release": digest})
            case "nan":
                embedding = base64.b64encode(np.full(32, np.nan, dtype="<f4").tobytes()).decode()
            case "short":
                embedding = base64.b64encode(np.ones(31, dtype="<f4").tobytes()).decode()
            case "hang":
                await asyncio.sleep(30)
        answer = {"data": [{"index": 0, "embedding": embedding}], "model": "encoder", "release": digest}
        return JSONResponse(answer, headers={"x-taoemb-release": digest})


@dataclass
class Shop:
    """Where everything is."""

    folder: Path
    milvus: Path
    releases: Releases
    collections: dict[str, str]
    """Digest → the collection that it is bound to."""

    def copy(self, folder: Path) -> Path:
        """A Milvus Lite file of a test's own."""
        shutil.copytree(self.milvus, folder / "milvus.db")
        return folder / "milvus.db"


def make_shop(folder: Path) -> Shop:
    """Publish all three releases; `base` and `query_only` share a collection."""
    made, data = make_releases(folder / "releases"), write_items(folder / "data", ITEMS)
    config = MilvusConfig(uri=str(folder / "milvus.db"), index="FLAT", spot_queries=5)
    published = [publish(release, data, config) for release in (made.base, made.query_only, made.other)]
    collections = {one.release: one.collection for one in published}
    assert len(set(collections.values())) == 2
    return Shop(folder, folder / "milvus.db", made, collections)


@dataclass
class Gateway:
    """A running gateway."""

    url: str
    process: subprocess.Popen
    folder: Path
    traffic_file: Path
    log: Path

    def obey(self, traffic: Traffic, timeout_s: float = 60) -> None:
        """Write the traffic and wait until the gateway says that it obeys it."""
        write_traffic(self.traffic_file, traffic)
        expected = {"rollout": traffic.rollout, "percent": traffic.percent, "salt": traffic.salt}
        wait_until(lambda: expected.items() <= httpx.get(f"{self.url}/traffic", timeout=30).json().items(), timeout_s)

    def search(self, query: str = QUERIES[0], **body: Any) -> httpx.Response:
        """As a tester who forces nothing."""
        return httpx.post(f"{self.url}/search", json={"query": query, **body}, headers=TESTER, timeout=60)

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value; 0 when it is not there yet."""
        from prometheus_client.parser import text_string_to_metric_families

        text = httpx.get(f"{self.url}/metrics", timeout=30).text
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def worker(self) -> int | None:
        """The process id of its newest worker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        workers = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return workers[-1] if workers else None


@contextmanager
def running_gateway(folder: Path, milvus: Path, traffic: Traffic, *settings: str) -> Iterator[Gateway]:
    """`taoemb serve gateway` over a Milvus Lite file, with everything that it writes in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    file, log, port = folder / "traffic.json", folder / "gateway.log", free_port()
    write_traffic(file, traffic)
    command = [sys.executable, "-m", "taoemb", "serve", "gateway", "--port", str(port), "--exit-with-parent"]
    command += ["--milvus", str(milvus), "--traffic", str(file)]
    (folder / "tester-token").write_text(TOKEN + "\n")
    own = (f"events.url=sqlite:///{folder}/events.db", f"events.spool={folder}/spool", "gateway.poll_s=0.1")
    own += (f"gateway.tester_token_file={folder}/tester-token",)
    for setting in (*own, "milvus.index=FLAT", *settings):
        command += ["--set", setting]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)
    gateway = Gateway(f"http://127.0.0.1:{port}", process, folder, file, log)
    try:
        wait_until(lambda: process.poll() is not None or _is_ready(gateway.url), START_S)
        assert process.poll() is None, log.read_text()
        yield gateway
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(true, timeout_s: float = 60) -> None:
    """Poll a condition; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@dataclass
class Load:
    """Clients that search without a break and check every reply."""

    url: str
    collections: dict[str, str]
    clients: int = 3
    pages: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def more(self, pages: int = 40) -> list[dict[str, Any]]:
        """Wait for so many more replies; gives those of them that were asked for from now on."""
        start = len(self.pages) + self.clients  # what is under way was asked before
        wait_until(lambda: len(self.pages) >= start + pages or self.failures, 120)
        return self.pages[start:]

    def _run(self, client: int) -> None:
        with httpx.Client(timeout=60, headers=TESTER) as http:
            number = 0
            while not self._stopping.is_set():
                number += 1
                body = {"query": QUERIES[number % len(QUERIES)], "user": f"u{client}-{number % 50}"}
                try:
                    reply = http.post(f"{self.url}/search", json=body)
                    self._check(reply)
                except (httpx.HTTPError, AssertionError, KeyError) as error:
                    self.failures.append(f"{type(error).__name__}: {error}")

    def _check(self, reply: httpx.Response) -> None:
        assert reply.status_code == 200, reply.text
        page = reply.json()
        assert page["sources"]
        for source in page["sources"]:
            assert self.collections[source["release"]] == source["collection"]
        assert len(page["items"]) == 10
        self.pages.append(page)


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    """What stands in the gateway's events database; nothing while the table is not there yet."""
    import sqlite3

    with sqlite3.connect(folder / "events.db") as connection:
        connection.row_factory = sqlite3.Row
        there = connection.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone()
        found = [dict(row) for row in connection.execute(f"select * from {table}")] if there else []
    for row in found:
        if "items" in row:
            row["items"] = json.loads(row["items"])
    return found


def recorded(folder: Path, table: str, count: int) -> list[dict[str, Any]]:
    """The rows of a table, once there are `count`."""
    wait_until(lambda: os.path.exists(folder / "events.db") and len(rows(folder, table)) >= count)
    return rows(folder, table)
