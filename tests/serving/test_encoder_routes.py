"""The routes over a model that holds its breath: full queues, clients that leave, and a model that breaks down."""

import asyncio
import json
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from taoemb.config import EncoderServerConfig
from taoemb.encoder.batching import TokenBatch
from taoemb.encoder.model import Encoder
from taoemb.serving.encoder.backends import torch_backend
from taoemb.serving.encoder.batches import encoder_batcher
from taoemb.serving.encoder.model import QueryModel
from taoemb.serving.encoder.protocols import Served
from taoemb.serving.encoder.routes import EncoderRoutes
from tests.serving.encoder_releases import bert_release

V1 = "/v1/models/encoder:predict"
LONG_S = 30.0


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return bert_release(tmp_path_factory.mktemp("release")).query_encoder()


class Held:
    """A real encoder that waits to be let go, and counts the texts of each pass."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.run = encoder, torch_backend(encoder)
        self.go, self.texts, self.broken = threading.Event(), 0, False

    def __call__(self, batch: TokenBatch) -> np.ndarray:
        assert self.go.wait(LONG_S)
        if self.broken:
            raise RuntimeError("CUDA out of memory at 0xdead")
        self.texts += len(batch.order)
        return self.run(batch)

    def app(self, **limits: int) -> Starlette:
        config = EncoderServerConfig(batch_texts=1, latency_budget_ms=0, **limits)
        self.registry = CollectorRegistry()
        model = QueryModel("digest", 16, self.encoder, self, 1.0)
        batcher = encoder_batcher(model, config, self.registry)
        return Starlette(routes=EncoderRoutes(Served("encoder", "digest", 16), batcher, config, self.registry).routes())


@pytest.fixture
def held(encoder: Encoder) -> Iterator[Held]:
    model = Held(encoder)
    yield model
    model.go.set()


def client(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://encoder", timeout=LONG_S)


async def waiting(held: Held, texts: int) -> None:
    while held.registry.get_sample_value("taoemb_encoder_waiting_texts") != texts:
        await asyncio.sleep(0.005)


def test_a_full_queue_is_429_and_those_who_wait_are_served(held: Held) -> None:
    async def run() -> None:
        async with client(held.app(queue_texts=3)) as http:
            first = asyncio.create_task(http.post(V1, json={"instances": ["red sofa"]}))
            await asyncio.sleep(0.05)  # it is with the model
            others = [asyncio.create_task(http.post(V1, json={"instances": ["blue", "lamp"]}))]
            await waiting(held, 2)
            refused = await http.post(V1, json={"instances": ["usb", "c"]})
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.json() == {"error": "too many texts are waiting; try again"}
            held.go.set()
            for reply in await asyncio.gather(first, *others):
                assert reply.status_code == 200

    asyncio.run(run())
    assert held.texts == 3


def test_nobody_encodes_for_a_client_that_has_gone(held: Held) -> None:
    app = held.app()
    body = json.dumps({"instances": ["blue", "lamp"]}).encode()
    scope = {"type": "http", "method": "POST", "path": V1, "headers": [], "query_string": b"", "http_version": "1.1"}

    async def run() -> list[dict]:
        messages: asyncio.Queue[dict] = asyncio.Queue()
        sent: list[dict] = []

        async def send(message: dict) -> None:
            sent.append(message)

        async with client(app) as http:
            first = asyncio.create_task(http.post(V1, json={"instances": ["red sofa"]}))
            await asyncio.sleep(0.05)  # it is with the model
            messages.put_nowait({"type": "http.request", "body": body, "more_body": False})
            leaving = asyncio.ensure_future(app(scope, messages.get, send))  # type: ignore[arg-type]
            await waiting(held, 2)
            messages.put_nowait({"type": "http.disconnect"})
            await asyncio.wait_for(leaving, LONG_S)
            await waiting(held, 0)
            held.go.set()
            assert (await first).status_code == 200
            assert (await http.post(V1, json={"instances": ["cable"]})).status_code == 200
        return sent

    sent = asyncio.run(run())
    assert held.texts == 2
    assert sent[0]["status"] == 499


def test_a_model_that_breaks_down_is_500_and_says_nothing_of_its_insides(held: Held) -> None:
    held.go.set()
    held.broken = True

    async def run() -> list[httpx.Response]:
        async with client(held.app()) as http:
            broken = await http.post(V1, json={"instances": ["red sofa"]})
            held.broken = False
            return [broken, await http.post(V1, json={"instances": ["red sofa"]})]

    broken, whole = asyncio.run(run())
    assert (broken.status_code, whole.status_code) == (500, 200)
    assert broken.json() == {"error": "encoding failed; see the server's log"}
