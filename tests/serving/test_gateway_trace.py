"""`traceparent` and `x-request-id`: taken when well-formed, passed to the encoder, in each log line, in the reply."""

import asyncio
import json
import logging

import httpx
import pytest
from aiohttp import web
from fastapi import FastAPI

from taoemb.hosting.logs import JsonFormatter, TextFormatter
from taoemb.hosting.trace import Trace, trace_headers
from taoemb.serving.gateway.arms import ArmFailure, EncoderClient
from taoemb.serving.traffic import Arm

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
GIVEN = {"x-request-id": "shop-7/a", "traceparent": PARENT}


async def through(headers: dict[str, str], work) -> httpx.Response:
    app = FastAPI()

    @app.get("/")
    async def answer() -> dict:
        return await work()

    transport = httpx.ASGITransport(app=Trace(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get("/", headers=headers)


async def current() -> dict:
    return dict(trace_headers())


def test_well_formed_values_are_taken_and_the_id_comes_back():
    answer = asyncio.run(through(GIVEN, current))
    assert answer.json() == GIVEN
    assert answer.headers["x-request-id"] == "shop-7/a"
    assert dict(trace_headers()) == {}, "nothing stays behind"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-request-id": "two words"},
        {"x-request-id": "a" * 129},
        {"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"},
        {"traceparent": PARENT + "-more"},
        {"traceparent": PARENT.upper()},
    ],
)
def test_anything_else_is_as_if_nothing_came(headers):
    answer = asyncio.run(through(headers, current))
    assert answer.json() == {}
    assert "x-request-id" not in answer.headers


def test_the_encoder_gets_them_and_log_lines_have_them():
    seen: list[dict] = []
    lines: list[str] = []

    async def encoder(request: web.Request) -> web.Response:
        seen.append({name: request.headers.get(name) for name in GIVEN})
        return web.Response(status=500)

    async def ask() -> dict:
        record = logging.LogRecord("taoemb", logging.ERROR, "", 0, "search failed", None, None)
        lines.extend((JsonFormatter().format(record), TextFormatter().format(record)))
        client = EncoderClient(5.0, 2)
        with pytest.raises(ArmFailure):
            await client.embed(Arm("c" * 64, (url,)), "sofa")
        await client.close()
        return {}

    url = ""

    async def run() -> None:
        nonlocal url
        app = web.Application()
        app.router.add_post("/openai/v1/embeddings", encoder)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await through(GIVEN, ask)
        await runner.cleanup()

    asyncio.run(run())
    assert seen == [GIVEN]
    assert json.loads(lines[0])["traceparent"] == PARENT
    assert lines[1].endswith(f"search failed x-request-id=shop-7/a traceparent={PARENT}")
