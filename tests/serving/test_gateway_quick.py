"""The short way of a search answers what the route would answer, and leaves the rest to it."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.types import Scope

from taoemb.serving.gateway.errors import refuse
from taoemb.serving.gateway.limits import BodyLimit
from taoemb.serving.gateway.models import SearchBody
from taoemb.serving.gateway.quick import QuickSearch

JSON = {"content-type": "application/json"}
SOFA = b'{"query": "sofa", "k": "5"}'


def app() -> FastAPI:
    """Says which way a search went; `k` above 100 is refused by the answer itself."""

    def answered(body: SearchBody, way: str) -> Response:
        if (body.k or 0) > 100:
            raise RequestValidationError([{"loc": ("k",), "msg": "at most 100", "type": "value_error"}])
        return Response(json.dumps({"way": way, "query": body.query, "k": body.k}))

    made = FastAPI()

    @made.post("/search")
    async def route(body: SearchBody) -> Response:
        return answered(body, "route")

    async def quick(body: SearchBody, scope: Scope) -> Response:
        return answered(body, "quick")

    made.add_middleware(QuickSearch, answer=quick)
    made.add_middleware(BodyLimit, most=200)
    made.add_exception_handler(RequestValidationError, refuse)
    return made


def post(
    content: bytes | AsyncIterator[bytes], headers: dict[str, str] = JSON, path: str = "/search"
) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app()), base_url="http://x") as http:
            return await http.post(path, content=content, headers=headers)

    return asyncio.run(send())


async def in_parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_a_plain_search_goes_the_short_way() -> None:
    assert post(SOFA).json() == {"way": "quick", "query": "sofa", "k": 5}


@pytest.mark.parametrize(
    "headers",
    [JSON | {"x-taoemb-arm": "control"}, JSON | {"x-taoemb-tester": "t"}, {"content-type": "application/json;a=b"}],
    ids=["arm", "tester", "content type"],
)
def test_an_unusual_search_goes_to_the_route(headers: dict[str, str]) -> None:
    assert post(SOFA, headers).json() == {"way": "route", "query": "sofa", "k": 5}


def test_a_body_may_come_in_parts() -> None:
    sofa = {"query": "sofa", "k": None}
    assert post(in_parts(b'{"query": ', b'"sofa"}')).json() == {"way": "quick"} | sofa
    told = JSON | {"x-taoemb-arm": "control"}
    assert post(in_parts(b'{"query": ', b'"sofa"}'), told).json() == {"way": "route"} | sofa


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 422, "body"),
        (b"{", 422, "JSON"),
        (b"\xff", 400, "parsing"),
        (b'{"query": " "}', 422, "blank"),
        (b'{"query": "a", "k": 101}', 422, "at most 100"),
        (b'{"query": "' + b"a" * 200 + b'"}', 413, "200 bytes"),
    ],
)
def test_a_bad_search_is_refused_as_the_route_refuses_it(body: bytes, status: int, words: str) -> None:
    quick, route = post(body), post(body, JSON | {"x-taoemb-arm": "control"})
    assert (quick.status_code, quick.content) == (route.status_code, route.content)
    assert quick.status_code == status
    assert words in quick.text


def test_other_routes_are_left_alone() -> None:
    assert post(SOFA, path="/nowhere").status_code == 404
