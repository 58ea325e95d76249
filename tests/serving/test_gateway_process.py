"""Several workers behind one port, limits on load and bodies, and settings that can't work."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from benchmarks.speed.gateway_overhead import run_encoder, run_gateway, running
from taoemb.config import EventsConfig, GatewayConfig, MilvusConfig
from taoemb.errors import InputError
from taoemb.serving.gateway.limits import BodyLimit
from taoemb.serving.gateway.process import GatewayApp, serve
from taoemb.serving.traffic import Arm, Traffic, write_traffic
from tests.judge.stub import free_port
from tests.serving.gateway_shop import Shop, StubEncoder, recorded, running_gateway, wait_until

SEARCHES = 40


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[str]:
    port, encoder = free_port(), free_port()
    with (
        running(run_encoder, encoder, port=encoder),
        running(run_gateway, tmp_path, port, encoder, 2, port=port),
    ):
        yield f"http://127.0.0.1:{port}"


def test_workers_share_a_port_their_metrics_and_the_events(two_workers: str, tmp_path: Path) -> None:
    def answered() -> list[int]:
        """Searches counted by each of several looks, which any of the workers answers."""
        texts = (httpx.get(f"{two_workers}/metrics", timeout=60).text for _ in range(6))
        return [
            int(sum(map(float, re.findall(r"^taoemb_gateway_searches_total\{.*\} (\S+)$", text, re.MULTILINE))))
            for text in texts
        ]

    def is_ready() -> bool:
        return httpx.get(f"{two_workers}/readyz", timeout=60).status_code == 200

    wait_until(is_ready)
    pages = [httpx.post(f"{two_workers}/search", json={"query": "sofa"}, timeout=60).json() for _ in range(SEARCHES)]
    assert all(len(page["items"]) == 10 for page in pages)
    assert answered() == [SEARCHES] * 6
    found = recorded(tmp_path, "pages", SEARCHES)
    assert sorted(row["request_id"] for row in found) == sorted(page["request_id"] for page in pages)


def test_too_many_searches_at_once_are_refused_and_the_others_answered(
    gateway_shop: Shop, gateway_encoders: dict[str, StubEncoder], tmp_path: Path
) -> None:
    base = gateway_encoders["base"]
    limits = ("gateway.concurrency=2", "gateway.patience_s=60", "gateway.encoder_timeout_s=0.5")

    async def flood(url: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=120) as http:
            searches = [asyncio.create_task(http.post(url, json={"query": "sofa"})) for _ in range(6)]
            await asyncio.wait(searches, return_when=asyncio.FIRST_COMPLETED)
            base.fault = ""
            return await asyncio.gather(*searches)

    with running_gateway(tmp_path / "gateway", gateway_shop.copy(tmp_path), Traffic(base.arm), *limits) as gateway:
        base.fault = "hang"
        try:
            replies = asyncio.run(flood(f"{gateway.url}/search"))
        finally:
            base.fault = ""
        assert sorted(reply.status_code for reply in replies) == [200, 200, 503, 503, 503, 503]
        refused = next(reply for reply in replies if reply.status_code == 503)
        assert (refused.headers["retry-after"], refused.json()["detail"][:8]) == ("1", "too many")
        assert gateway.metric("taoemb_gateway_refused_searches_total") == 4
        assert gateway.search().status_code == 200


def post(chunks: AsyncIterator[bytes] | bytes, seconds: float = 30) -> httpx.Response:
    """Send a body to an application that reads 10 bytes within `seconds`."""
    app = FastAPI()

    @app.post("/")
    async def echo(body: list[int]) -> list[int]:
        return body

    app.add_middleware(BodyLimit, most=10, seconds=seconds)

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
            return await http.post("/", content=chunks, headers={"content-type": "application/json"})

    return asyncio.run(send())


async def slowly(*chunks: bytes, pause_s: float = 0) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(pause_s)


def test_bodies_have_a_size_and_a_time() -> None:
    assert post(b"[1, 2, 34]").json() == [1, 2, 34]
    assert post(slowly(b"[1, ", b"2, 34]")).json() == [1, 2, 34]
    assert post(b"[1, 2, 345]").status_code == 413
    assert post(slowly(b"[1, ", b"2, 3", b"45]")).status_code == 413
    assert post(slowly(b"[1", b"]", pause_s=30), seconds=0.05).status_code == 408


LITE, EVENTS = MilvusConfig(uri="milvus.db"), EventsConfig()
WRONG = {
    "no traffic file": (GatewayConfig(traffic="nowhere.json"), LITE, EVENTS, r"nowhere.json: No such file"),
    "no KServe name": (GatewayConfig(traffic="kserve://shop"), LITE, EVENTS, "kserve://NAMESPACE/INFERENCESERVICE"),
    "Lite for many": (GatewayConfig(workers=2), LITE, EVENTS, "serves one process"),
    "no Milvus": (GatewayConfig(), MilvusConfig(uri="milvus"), EVENTS, "milvus.uri 'milvus'"),
    "no Milvus token": (GatewayConfig(), MilvusConfig(token_file=Path("nowhere")), EVENTS, "milvus.token_file nowhere"),
    "no database": (GatewayConfig(), LITE, EventsConfig(url="mysql://x"), "events.url"),
    "no tester token": (GatewayConfig(tester_token_file=Path("nowhere")), LITE, EVENTS, "tester_token_file nowhere"),
}


@pytest.mark.parametrize("case", WRONG)
def test_settings_that_cannot_work_are_refused_before_anything_starts(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, milvus, events, words = WRONG[case]
    monkeypatch.chdir(tmp_path)
    write_traffic(tmp_path / "traffic.json", Traffic(Arm("a", ("http://127.0.0.1:1",))))
    with pytest.raises(InputError, match=words):
        serve(GatewayApp(gateway, milvus, events), port=free_port())
