"""The tester's search before a candidate's first share: only the candidate's own answer counts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from taoemb.config import GatewayConfig
from taoemb.errors import InputError, TaoembError
from taoemb.rollout.local.search import search_as_tester
from taoemb.rollout.simulate.servers import LoopbackServer

RELEASE = "ca" * 32


class Gateway:
    """Answers every search alike, and remembers it."""

    def __init__(self) -> None:
        self.answer = JSONResponse({"served": "candidate", "release": RELEASE})
        self.asked: dict = {}
        self.token: str | None = None
        self.server = LoopbackServer(Starlette(routes=[Route("/search", self._search, methods=["POST"])]))

    async def _search(self, request: Request) -> JSONResponse:
        self.asked, self.token = await request.json(), request.headers.get("x-taoemb-tester")
        return self.answer


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    made.server.up()
    yield made
    made.server.down()


def test_the_candidates_own_page_lets_it_through(gateway: Gateway, tmp_path: Path) -> None:
    search_as_tester(gateway.server.url, GatewayConfig(), RELEASE)
    assert gateway.asked["arm"] == "candidate"
    assert gateway.token is None
    (tmp_path / "token").write_text("secret\n")
    search_as_tester(gateway.server.url, GatewayConfig(tester_token_file=tmp_path / "token"), RELEASE)
    assert gateway.token == "secret"


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ({"served": "control", "release": "c0" * 32}, 200),
        ({"served": "candidate", "release": "c0" * 32}, 200),
        ({"error": "there is no candidate now"}, 409),
        ({"error": "no arm answered"}, 503),
    ],
)
def test_anything_else_does_not(gateway: Gateway, page: dict, code: int) -> None:
    gateway.answer = JSONResponse(page, code)
    with pytest.raises(TaoembError, match=page.get("served") or page["error"]):
        search_as_tester(gateway.server.url, GatewayConfig(), RELEASE)


def test_no_gateway_and_no_token(gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tester_token_file"):
        search_as_tester(gateway.server.url, GatewayConfig(tester_token_file=tmp_path / "none"), RELEASE)
    gateway.server.down()
    with pytest.raises(TaoembError, match="search"):
        search_as_tester(gateway.server.url, GatewayConfig(), RELEASE)
    gateway.server.up()
