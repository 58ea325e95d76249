"""Simulated shoppers against a gateway that answers as it is told: what they see, and what they hold against it."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from taoemb.errors import TaoembError
from taoemb.rollout.simulate.servers import LoopbackServer
from taoemb.rollout.simulate.shoppers import Demand, Shoppers, drive
from taoemb.rollout.simulate.shopping import Habits, act
from taoemb.serving.gateway.models import Event, EventBatch, SearchBody, ToldPage


class Gateway:
    """Answers searches with `page`, and remembers what it was asked."""

    def __init__(self, page: Callable[[dict[str, Any]], Response | dict[str, Any]] | None = None) -> None:
        self.page = page or good_page
        self.searches: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    async def search(self, request: Request) -> Response:
        body = await request.json()
        SearchBody.model_validate(body)
        self.searches.append(body)
        answer = self.page(body)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    async def take(self, request: Request) -> Response:
        body = await request.json()
        self.events += [json.loads(one.model_dump_json()) for one in EventBatch.model_validate(body).events]
        return JSONResponse({"accepted": len(body["events"])}, 202)

    def serving(self) -> LoopbackServer:
        routes = [Route("/search", self.search, methods=["POST"]), Route("/events", self.take, methods=["POST"])]
        return LoopbackServer(Starlette(routes=routes))


def good_page(body: dict[str, Any], release: str = "r1", collection: str = "c1") -> dict[str, Any]:
    items = [
        {"item_id": f"i{at}", "score": 1.0, "title": None, "brand": None, "category": None, "price": 2.5}
        for at in range(body["k"])
    ]
    page = {
        "request_id": f"p{random.randrange(10**9)}",
        "unit": body["user"],
        "rollout": "",
        "assigned": "control",
        "served": "control",
        "release": release,
        "collection": collection,
        "sources": [{"arm": "control", "release": release, "collection": collection}],
        "items": items,
        "timings": {"total_ms": 1, "encoder_ms": 1, "search_ms": 0},
    }
    return json.loads(
        ToldPage.model_validate(page | {"items": [one | {"team": None} for one in items]}).model_dump_json()
    )


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text("sesame\n")
    return file


def demand(**changes: Any) -> Demand:
    return Demand(**({"queries": ["red sofa", "lamp"], "shoppers": 40, "k": 4, "timeout_s": 10} | changes))


def test_everybody_comes_and_is_counted(token: Path) -> None:
    gateway = Gateway()
    with gateway.serving() as server:
        log = drive(server.url, demand(grades=lambda query, ids: [4] * len(ids), token_file=token))
    log.check()
    assert log.shoppers == len({search["user"] for search in gateway.searches}) == 40
    assert log.searches == len(gateway.searches) > 40, "shoppers return and turn pages"
    assert log.events == len(gateway.events)
    kinds = Counter(event["type"] for event in gateway.events)
    assert kinds["impression"] == log.searches
    assert kinds["click"] > kinds["add_to_cart"] > kinds["purchase"] > 0
    assert log.served == {("control", "control"): log.searches}
    assert 0 < log.milliseconds(0.5) <= log.milliseconds(0.99)


@pytest.mark.parametrize(
    "page",
    [
        lambda body: Response(status_code=503),
        lambda body: Response("no json", status_code=500),
        lambda body: JSONResponse({"detail": "late"}, 504),
    ],
)
def test_every_failed_search_is_counted(page: Callable[[dict[str, Any]], Response]) -> None:
    with Gateway(page).serving() as server:
        log = drive(server.url, demand(shoppers=5))
    assert log.failed == log.searches > 0
    with pytest.raises(TaoembError, match=f"of {log.searches} searches {log.failed} failed"):
        log.check()


def test_a_gateway_that_is_not_there_fails_every_search() -> None:
    with Gateway().serving() as server:
        url = server.url
    log = drive(url, demand(shoppers=3))
    assert log.failed == log.searches > 0
    assert "ConnectError" in log.failures[0]


def test_pages_that_mix_two_releases_are_counted(token: Path) -> None:
    def page(body: dict[str, Any]) -> dict[str, Any]:
        return good_page(body, "r2", "c1" if body["query"] == "lamp" else "c2")

    gateway = Gateway(page)
    with gateway.serving() as server:
        log = drive(server.url, demand(collections={"r1": "c1", "r2": "c2"}, token_file=token))
    wrong = sum(search["query"] == "lamp" for search in gateway.searches)
    assert log.mismatched == wrong > 0
    with pytest.raises(TaoembError, match=f"{wrong} mixed two releases"):
        log.check()


def test_without_a_list_a_release_must_stay_with_its_first_collection(token: Path) -> None:
    seen = iter(range(10**6))
    with Gateway(lambda body: good_page(body, "r1", f"c{min(next(seen), 1)}")).serving() as server:
        log = drive(server.url, demand(concurrency=1, token_file=token))
    assert log.mismatched == log.searches - 1


def test_a_release_that_nobody_knows_is_a_mismatch(token: Path) -> None:
    with Gateway().serving() as server:
        log = drive(server.url, demand(shoppers=2, collections={"other": "c1"}, token_file=token))
    assert log.mismatched == log.searches


def test_shoppers_without_the_token_see_no_arm_and_check_none() -> None:
    shown = ("request_id", "unit", "items", "timings")
    gateway = Gateway(lambda body: {name: good_page(body)[name] for name in shown})
    with gateway.serving() as server:
        log = drive(server.url, demand(shoppers=5, grades=lambda query, ids: [4] * len(ids)))
    log.check()
    assert (log.searches > 0, log.events > 0, log.served) == (True, True, Counter())


def test_shoppers_can_be_stopped() -> None:
    with Gateway().serving() as server, Shoppers(server.url, demand(shoppers=10**6)) as shoppers:
        while shoppers.log.searches < 20:
            assert not shoppers.gone
        log = shoppers.stop()
        assert shoppers.gone
        assert 0 < shoppers.time < 1
    assert log.failed == 0


def test_a_bug_in_the_oracle_is_not_swallowed() -> None:
    def broken(query: str, ids: object) -> list[int]:
        raise KeyError(query)

    with Gateway().serving() as server, pytest.raises(KeyError):
        drive(server.url, demand(grades=broken))


def test_the_pace_is_kept() -> None:
    gateway = Gateway()
    habits = Habits(more_pages=0, returning=0)
    with gateway.serving() as server:
        import time

        started = time.monotonic()
        drive(server.url, demand(shoppers=20, rate=50, habits=habits))
    assert time.monotonic() - started >= 20 / 50
    assert len(gateway.searches) == 20


@given(st.lists(st.integers(1, 4), max_size=20), st.integers(0, 10**6))
def test_events_are_what_the_gateway_takes(grades: list[int], seed: int) -> None:
    ids = [f"i{at}" for at in range(len(grades))]
    events = act(Habits(), "p1", ids, [None] * len(ids), grades, random.Random(seed))
    parsed = [Event.model_validate(event) for event in events]
    assert [one.type for one in parsed].count("impression") == 1
    clicked = {one.item_id for one in parsed if one.type == "click"}
    carted = {one.item_id for one in parsed if one.type == "add_to_cart"}
    bought = {one.item_id for one in parsed if one.type == "purchase"}
    assert bought <= carted <= clicked <= set(ids)
    assert all(ids[one.position - 1] == one.item_id for one in parsed if one.position)


def test_better_and_higher_items_are_clicked_more() -> None:
    rng, clicks = random.Random(1), Counter[tuple[int, int]]()
    for _ in range(4000):
        for event in act(Habits(), "p", ["a", "b", "c", "d"], [1.0] * 4, [4, 1, 4, 1], rng):
            if event["type"] == "click":
                clicks[event["position"], 4 if event["item_id"] in "ac" else 1] += 1
    assert clicks[1, 4] > clicks[3, 4] > clicks[2, 1] > clicks[4, 1] > 0
    habits = Habits()
    assert clicks[1, 4] / 4000 == pytest.approx(habits.click[4], abs=0.04)
    assert clicks[3, 4] / 4000 == pytest.approx(habits.click[4] * 3**-habits.examine_decay, abs=0.04)
