"""The public routes of a real gateway behind a proxy: what shoppers are told, and what strangers can't do."""

import httpx
import pytest

from taoemb.serving.traffic import Traffic
from tests.serving.gateway_shop import (
    QUERIES,
    TESTER,
    Gateway,
    Shop,
    StubEncoder,
    recorded,
    running_gateway,
    wait_until,
)

Encoders = dict[str, StubEncoder]
LIMITS = ("trusted_proxies=1", "client_searches=0.01", "client_events=0.01", "client_burst_s=600", "client_units=2")


@pytest.fixture(scope="module")
def gateway(gateway_shop: Shop, gateway_encoders: Encoders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("public")
    arms = gateway_encoders["base"].arm, gateway_encoders["other"].arm
    traffic = Traffic(*arms, 50.0, "interleaving", "spring", "salt")
    with running_gateway(folder, gateway_shop.copy(folder), traffic, *(f"gateway.{one}" for one in LIMITS)) as running:
        yield running


def search(gateway: Gateway, client: str | None = None, **more) -> httpx.Response:
    headers = more.pop("headers", {}) | ({} if client is None else {"x-forwarded-for": f"8.8.8.8, {client}"})
    return httpx.post(f"{gateway.url}/search", json={"query": QUERIES[0], **more}, headers=headers, timeout=60)


def send(gateway: Gateway, events, client: str | None = None) -> httpx.Response:
    headers = {} if client is None else {"x-forwarded-for": client}
    return httpx.post(f"{gateway.url}/events", json=events, headers=headers, timeout=60)


def page_row(gateway: Gateway, request_id: str) -> dict:
    def mine() -> list[dict]:
        return [row for row in recorded(gateway.folder, "pages", 1) if row["request_id"] == request_id]

    wait_until(lambda: bool(mine()))
    return mine()[0]


def test_shoppers_are_not_told_arm_rollout_or_release(gateway: Gateway, gateway_encoders: Encoders) -> None:
    secrets = ["spring", "control", "candidate", "interleaved", *(one.digest for one in gateway_encoders.values())]
    for number in range(12):
        reply = search(gateway, user=f"u{number}")
        assert set(reply.json()) == {"request_id", "unit", "items", "timings"}
        assert set(reply.json()["items"][0]) == {"item_id", "score", "title", "brand", "category", "price"}
        assert [one for one in secrets if one in reply.text or one in str(reply.headers)] == []
    told = search(gateway, user="u1", headers=TESTER).json()
    assert (told["rollout"], {item["team"] is not None for item in told["items"]} <= {True, False}) == ("spring", True)


def test_nobody_forces_an_arm_where_no_token_is_set(gateway: Gateway) -> None:
    (gateway.folder / "tester-token").rename(gateway.folder / "away")
    try:
        for headers in ({}, TESTER, {"x-taoemb-tester": ""}):
            assert search(gateway, arm="candidate", headers=headers).status_code == 403
        assert search(gateway).status_code == 200
    finally:
        (gateway.folder / "away").rename(gateway.folder / "tester-token")


def test_events_are_taken_for_pages_that_were_served(gateway: Gateway) -> None:
    page = search(gateway, user="clicks").json()
    mine = {"type": "click", "request_id": page["request_id"], "event_id": "mine"}
    forged = [mine | {"request_id": name, "event_id": name[:9]} for name in ("r1", "f" * 56, "a" * 32)]
    assert send(gateway, forged).status_code == 403
    refused = gateway.metric("taoemb_gateway_refused_events_total", reason="unsigned")
    taken = send(gateway, [mine, *forged])
    assert (taken.status_code, taken.json()) == (202, {"accepted": 1, "refused": 3})
    assert gateway.metric("taoemb_gateway_refused_events_total", reason="unsigned") == refused + 3
    wait_until(lambda: any(row["event_id"] == "mine" for row in recorded(gateway.folder, "events", 1)))
    assert not {row["event_id"] for row in recorded(gateway.folder, "events", 1)} & {"r1", "f" * 9, "a" * 9}


def test_a_client_that_sends_too_much_waits_and_others_do_not(gateway: Gateway) -> None:
    page = search(gateway, user="many").json()
    assert [search(gateway, "1.1.1.1").status_code for _ in range(7)] == [200] * 6 + [429]
    late = httpx.get(f"{gateway.url}/search?query=x", headers={"x-forwarded-for": "1.1.1.1"})
    assert (late.status_code, 50 <= int(late.headers["retry-after"]) <= 100) == (429, True)
    assert search(gateway, "1.1.1.2").status_code == search(gateway).status_code == 200
    click = {"type": "click", "request_id": page["request_id"]}
    assert send(gateway, [click] * 5, "1.1.1.1").status_code == 202, "events have a bucket of their own"
    assert send(gateway, [click] * 5, "1.1.1.1").status_code == 429
    assert send(gateway, [click] * 100).status_code == 202
    assert gateway.metric("taoemb_gateway_limited_requests_total") >= 3


def test_junk_sessions_and_robots_are_answered_and_not_measured(gateway: Gateway) -> None:
    name = "taoemb_gateway_unmeasured_pages_total"
    before = gateway.metric(name, reason="units")
    junk = [search(gateway, "2.2.2.2", session=f"junk{n}").json()["request_id"] for n in range(4)]
    robot = search(gateway, user="crawler", headers={"user-agent": "Googlebot/2.1"}).json()["request_id"]
    shopper = search(gateway, user="shopper").json()["request_id"]
    assert [page_row(gateway, one)["forced"] for one in (*junk, robot, shopper)] == [0, 0, 1, 1, 1, 0]
    measured = {row["unit"] for row in recorded(gateway.folder, "units", 1)}
    assert {"junk0", "junk1", "shopper"} <= measured
    assert not measured & {"junk2", "junk3", "crawler"}
    assert gateway.metric(name, reason="units") == before + 2
    assert gateway.metric(name, reason="robot") == 1
