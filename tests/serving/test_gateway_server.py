"""The real gateway in its own processes, over a real Milvus Lite: pages, arms, filters, events, what it refuses."""

import dataclasses
import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from taoemb.serving.assignment import assign, place
from taoemb.serving.traffic import Arm, Traffic
from tests.judge.stub import free_port
from tests.serving.gateway_shop import (
    ITEMS,
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


@pytest.fixture(scope="module")
def gateway(
    gateway_shop: Shop, gateway_encoders: Encoders, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    traffic = Traffic(gateway_encoders["base"].arm)
    limits = ("gateway.max_k=20", "gateway.encoder_timeout_s=2", "gateway.patience_s=5", "gateway.max_body_mb=0.1")
    with running_gateway(folder, gateway_shop.copy(folder), traffic, *limits) as running:
        yield running


@pytest.fixture
def ab(gateway_encoders: Encoders) -> Iterator[Traffic]:
    """Half of the units see `other`; encoders are mended afterwards."""
    yield Traffic(gateway_encoders["base"].arm, gateway_encoders["other"].arm, 50.0, "ab", "spring", "salt")
    for encoder in gateway_encoders.values():
        encoder.fault = ""
        encoder.server.up()


def unit_of(traffic: Traffic, arm: str, number: int = 0) -> str:
    """A unit of that arm; another for each number."""
    return [unit for unit in (f"user{i}" for i in range(1000)) if assign(traffic, unit) == arm][number]


def nearest(encoder: StubEncoder, shop: Shop, query: str, k: int) -> list[str]:
    """The exact answer: titles of the items nearest to the query's vector under the release's own item encoder."""
    release = next(one for one in vars(shop.releases).values() if one.manifest.digest == encoder.digest)
    texts = [f"{item['title']}{', acme' if item['brand'] else ''}" for item in ITEMS]
    vectors = release.item_encoder().encode(texts, "item")
    return [ITEMS[row]["item_id"] for row in np.argsort(-(vectors @ encoder.vector(query)))[:k]]


def test_a_page_holds_the_items_of_the_arms_release(
    gateway: Gateway, gateway_shop: Shop, gateway_encoders: Encoders, ab: Traffic
) -> None:
    gateway.obey(ab)
    for arm, name in (("control", "base"), ("candidate", "other")):
        user, encoder = unit_of(ab, arm), gateway_encoders[name]
        reply = httpx.get(f"{gateway.url}/search", params={"query": QUERIES[1], "user": user, "k": 7}, headers=TESTER)
        page = reply.json()
        assert reply.status_code == 200, page
        assert (page["assigned"], page["served"], page["rollout"], page["unit"]) == (arm, arm, "spring", user)
        assert (page["release"], page["collection"]) == (encoder.digest, gateway_shop.collections[encoder.digest])
        assert page["sources"] == [{"arm": arm, "release": page["release"], "collection": page["collection"]}]
        assert [item["item_id"] for item in page["items"]] == nearest(encoder, gateway_shop, QUERIES[1], 7)
        shown = page["items"][0]
        item = next(one for one in ITEMS if one["item_id"] == shown["item_id"])
        assert {name: shown[name] for name in ("title", "brand", "category", "price")} == {
            name: item[name] for name in ("title", "brand", "category", "price")
        }
        times = page["timings"]
        assert times["total_ms"] >= times["encoder_ms"] + times["search_ms"] > 0


def test_a_query_only_candidate_searches_its_parents_collection(
    gateway: Gateway, gateway_shop: Shop, gateway_encoders: Encoders, ab: Traffic
) -> None:
    candidate = gateway_encoders["query_only"]
    gateway.obey(dataclasses.replace(ab, candidate=candidate.arm, percent=100, rollout="query-only"))
    page = gateway.search(user="anybody").json()
    assert page["release"] == candidate.digest
    assert page["collection"] == gateway_shop.collections[gateway_encoders["base"].digest]
    assert [item["item_id"] for item in page["items"]] == nearest(candidate, gateway_shop, QUERIES[0], 10)


def test_every_page_and_event_is_recorded(gateway: Gateway, gateway_encoders: Encoders, ab: Traffic) -> None:
    gateway.obey(dataclasses.replace(ab, rollout="recorded"))
    user = unit_of(ab, "candidate")
    page = gateway.search(user=user, k=3, filters={"brand": "acme"}).json()
    click = {"type": "click", "request_id": page["request_id"], "item_id": page["items"][1]["item_id"], "position": 2}
    for body in (
        click | {"event_id": "e1"},
        [click | {"event_id": "e1"}],
        {"events": [{**click, "type": "purchase", "value": 9.5}]},
    ):
        reply = httpx.post(f"{gateway.url}/events", json=body)
        assert (reply.status_code, reply.json()) == (202, {"accepted": 1, "refused": 0})
    wait_until(lambda: any(row["request_id"] == page["request_id"] for row in recorded(gateway.folder, "pages", 1)))
    [row] = [row for row in recorded(gateway.folder, "pages", 1) if row["request_id"] == page["request_id"]]
    expected = {
        "rollout": "recorded", "unit": user, "assigned": "candidate", "served": "candidate", "forced": 0,
        "percent": 50.0, "query": QUERIES[0], "k": 3, "filter": 'brand == "acme"', "status": "ok",
        "release": gateway_encoders["other"].digest, "collection": page["collection"],
    }  # fmt: skip
    assert expected.items() <= row.items()
    assert [item | {"team": None} for item in row["items"]] == page["items"]
    assert row["total_ms"] >= row["encoder_ms"] + row["search_ms"] > 0
    mine = [row for row in recorded(gateway.folder, "events", 2) if row["request_id"] == page["request_id"]]
    kinds = sorted((row["type"], row["value"], row["position"]) for row in mine)
    assert kinds == [
        ("click", None, 2),
        ("purchase", 9.5, 2),
    ]


def test_without_user_and_session_a_unit_is_made_and_returned(gateway: Gateway, ab: Traffic) -> None:
    gateway.obey(ab)
    first, second = gateway.search().json(), gateway.search().json()
    assert first["unit"] != second["unit"]
    again = gateway.search(session=first["unit"]).json()
    assert (again["unit"], again["assigned"]) == (first["unit"], first["assigned"])
    assert gateway.search(user="u", session="s").json()["unit"] == "u"


def test_the_share_of_the_units_is_the_percent_and_grows_monotonously(gateway: Gateway, ab: Traffic) -> None:
    users = [f"shopper{i}" for i in range(60)]
    seen: set[str] = set()
    for percent in (0.0, 20.0, 60.0, 100.0):
        gateway.obey(dataclasses.replace(ab, percent=percent))
        with httpx.Client(timeout=60, headers=TESTER) as http:
            pages = [
                http.post(f"{gateway.url}/search", json={"query": "sofa", "user": user, "k": 1}).json()
                for user in users
            ]
        candidates = {page["unit"] for page in pages if page["assigned"] == "candidate"}
        assert candidates == {user for user in users if place(ab.salt, user) < percent}
        assert seen <= candidates
        seen = candidates


@pytest.mark.parametrize("fault", ["release", "status", "text", "nan", "short", "hang"])
def test_the_control_stands_in_for_a_broken_candidate(
    gateway: Gateway, gateway_encoders: Encoders, ab: Traffic, fault: str
) -> None:
    gateway.obey(dataclasses.replace(ab, rollout=f"fault-{fault}"))
    user = unit_of(ab, "candidate")
    reasons = {"release": "digest", "status": "status", "hang": "timeout"}
    wait_until(lambda: gateway.search(user=user).json()["served"] == "candidate")  # no longer rests from the last fault
    before = gateway.metric("taoemb_gateway_fallbacks_total", arm="candidate", reason=reasons.get(fault, "malformed"))
    mismatches = gateway.metric("taoemb_gateway_digest_mismatches_total")
    gateway_encoders["other"].fault = fault
    page = gateway.search(user=user).json()
    assert (page["assigned"], page["served"]) == ("candidate", "control")
    assert page["release"] == gateway_encoders["base"].digest
    after = gateway.metric("taoemb_gateway_fallbacks_total", arm="candidate", reason=reasons.get(fault, "malformed"))
    assert after == before + 1
    assert gateway.metric("taoemb_gateway_digest_mismatches_total") == mismatches + (fault == "release")
    wait_until(lambda: any(row["request_id"] == page["request_id"] for row in recorded(gateway.folder, "pages", 1)))
    [row] = [row for row in recorded(gateway.folder, "pages", 1) if row["request_id"] == page["request_id"]]
    assert (row["assigned"], row["served"], row["status"]) == ("candidate", "control", "ok")
    gateway_encoders["other"].fault = ""
    wait_until(lambda: gateway.search(user=user).json()["served"] == "candidate")


def test_a_dead_candidate_costs_no_call_while_it_rests(
    gateway: Gateway, gateway_encoders: Encoders, ab: Traffic
) -> None:
    gateway.obey(dataclasses.replace(ab, rollout="dead"))
    gateway_encoders["other"].fault = "hang"
    user = unit_of(ab, "candidate")
    wait_until(lambda: gateway.search(user=user).json()["served"] == "control")
    quick = [gateway.search(user=user).json() for _ in range(5)]
    assert all(page["served"] == "control" for page in quick)
    assert sum(page["timings"]["total_ms"] > 2000 for page in quick) <= 2


def test_a_release_that_is_bound_nowhere_is_never_searched_with(
    gateway: Gateway, gateway_encoders: Encoders, ab: Traffic
) -> None:
    other = gateway_encoders["other"]
    gateway.obey(dataclasses.replace(ab, percent=100, rollout="bound"))
    wait_until(lambda: gateway.search().json()["served"] == "candidate")  # no longer rests from the last fault
    stray, other.digest = other.digest, "a" * 64  # its encoder answers under this digest, and nothing was published
    try:
        gateway.obey(dataclasses.replace(ab, candidate=other.arm, percent=100, rollout="unbound"))
        before = gateway.metric("taoemb_gateway_fallbacks_total", arm="candidate", reason="unbound")
        pages = [gateway.search(user=f"u{i}").json() for i in range(4)]
        assert {(page["assigned"], page["served"]) for page in pages} == {("candidate", "control")}
        assert gateway.metric("taoemb_gateway_fallbacks_total", arm="candidate", reason="unbound") == before + 4
    finally:
        other.digest = stray


def test_another_replica_answers_for_a_dead_one(gateway: Gateway, gateway_encoders: Encoders, ab: Traffic) -> None:
    base = gateway_encoders["base"]
    dead = f"http://127.0.0.1:{free_port()}"
    gateway.obey(Traffic(Arm(base.digest, (dead, *base.arm.urls, "http://not a url")), rollout="replicas"))
    before = gateway.metric("taoemb_gateway_fallbacks_total")
    assert [gateway.search().status_code for _ in range(6)] == [200] * 6
    assert gateway.metric("taoemb_gateway_fallbacks_total") == before


def test_a_dead_control_is_waited_for_and_the_candidate_stands_in(
    gateway: Gateway, gateway_encoders: Encoders, ab: Traffic
) -> None:
    gateway.obey(dataclasses.replace(ab, rollout="control-down"))
    gateway_encoders["base"].server.down()
    page = gateway.search(user=unit_of(ab, "control")).json()
    assert (page["assigned"], page["served"]) == ("control", "candidate")
    gateway.obey(Traffic(gateway_encoders["base"].arm, rollout="alone"))
    reply = gateway.search()
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "5 s" in reply.json()["detail"]
    wait_until(lambda: any(row["status"] == "error" for row in recorded(gateway.folder, "pages", 1)))
    [row] = [row for row in recorded(gateway.folder, "pages", 1) if row["status"] == "error"]
    assert (row["served"], row["release"], row["items"]) == ("none", "", [])
    gateway_encoders["base"].server.up()
    assert gateway.search().json()["served"] == "control"


def test_a_traffic_file_that_is_broken_or_gone_changes_nothing(gateway: Gateway, ab: Traffic) -> None:
    gateway.obey(dataclasses.replace(ab, rollout="kept"))
    gateway.traffic_file.write_text("{")
    wait_until(lambda: "not JSON" in httpx.get(f"{gateway.url}/traffic").json()["problem"])
    gateway.traffic_file.unlink()
    wait_until(lambda: "No such file" in httpx.get(f"{gateway.url}/traffic").json()["problem"])
    assert gateway.search().json()["rollout"] == "kept"


def test_testers_force_an_arm_with_their_token(gateway: Gateway, gateway_encoders: Encoders, ab: Traffic) -> None:
    gateway.obey(dataclasses.replace(ab, rollout="forced"))
    user, url = unit_of(ab, "control"), f"{gateway.url}/search"
    body, header = {"query": "sofa", "user": user}, TESTER
    for wrong in ({}, {"x-taoemb-tester": "open"}, {"x-taoemb-tester": "\u00e9".encode()}):
        assert httpx.post(url, json=body | {"arm": "candidate"}, headers=wrong).status_code == 403
        assert not wrong or httpx.post(url, json=body, headers=wrong).status_code == 403
    assert httpx.post(url, json=body, headers=header).json()["served"] == "control"
    for page in (
        httpx.post(url, json=body | {"arm": "candidate"}, headers=header).json(),
        httpx.get(url, params=body, headers=header | {"x-taoemb-arm": "candidate"}).json(),
    ):
        assert (page["assigned"], page["served"]) == ("candidate", "candidate")
        wait_until(lambda: any(row["request_id"] == page["request_id"] for row in recorded(gateway.folder, "pages", 1)))  # noqa: B023
        [row] = [row for row in recorded(gateway.folder, "pages", 1) if row["request_id"] == page["request_id"]]
        assert (row["forced"], row["assigned"]) == (1, "candidate")
    gateway.obey(Traffic(gateway_encoders["base"].arm, rollout="nobody"))
    assert httpx.post(url, json=body | {"arm": "candidate"}, headers=header).status_code == 409


def test_filters_hold_for_all_items(gateway: Gateway, ab: Traffic) -> None:
    gateway.obey(ab)
    filters = {"brand": ["acme", "else"], "category": "home/sofas", "price": {"min": 3, "max": 25.5}}
    page = gateway.search(k=20, filters=filters | {"signals": {"signal_rating": {"min": 0.5}}}).json()
    expected = {
        item["item_id"]
        for item in ITEMS
        if item["brand"] and item["category"] == "home/sofas" and item["price"] and 3 <= item["price"] <= 25.5
        and item["signal_rating"] >= 0.5
    }  # fmt: skip
    assert {item["item_id"] for item in page["items"]} == expected != set()
    params = {
        "query": "x",
        "k": 20,
        "brand": ["acme", "else"],
        "category": "home/sofas",
        "price_min": 3,
        "price_max": 25.5,
    }
    wider = httpx.get(f"{gateway.url}/search", params=params).json()
    assert {item["item_id"] for item in wider["items"]} > expected
    empty = gateway.search(user="nobody", filters={"brand": 'acme" or brand != "'}).json()
    assert empty["items"] == []
    wait_until(lambda: any(row["request_id"] == empty["request_id"] for row in recorded(gateway.folder, "pages", 1)))
    assert {
        row["status"] for row in recorded(gateway.folder, "pages", 1) if row["request_id"] == empty["request_id"]
    } == {"empty"}


def test_interleaved_pages_mix_both_arms_and_say_who_picked_what(
    gateway: Gateway, gateway_shop: Shop, gateway_encoders: Encoders, ab: Traffic
) -> None:
    gateway.obey(dataclasses.replace(ab, design="interleaving", rollout="mixed"))
    assert gateway.search(user=unit_of(ab, "control")).json()["served"] == "control"
    user = unit_of(ab, "candidate")
    page = gateway.search(user=user).json()
    assert (page["assigned"], page["served"], page["release"], page["collection"]) == (
        "candidate",
        "interleaved",
        "",
        "",
    )
    rankings = {}
    for source, name in zip(page["sources"], ("base", "other"), strict=True):
        assert source["collection"] == gateway_shop.collections[gateway_encoders[name].digest]
        rankings[source["arm"]] = nearest(gateway_encoders[name], gateway_shop, QUERIES[0], 10)
    teams = [item["team"] for item in page["items"]]
    assert abs(teams.count("control") - teams.count("candidate")) <= 1
    for item in page["items"]:
        assert item["item_id"] in rankings[item["team"]]
    gateway_encoders["other"].fault = "status"
    page = gateway.search(user=user).json()
    assert (page["assigned"], page["served"], page["items"][0]["team"]) == ("candidate", "control", None)
    assert gateway.metric("taoemb_gateway_fallbacks_total", arm="interleaved", reason="status") >= 1


BAD: list[tuple[object, int, str]] = [
    (b"", 422, "required"),
    (b"{", 422, "JSON"),
    (b"\xff", 400, "parsing"),
    (b"[" * 50_000, 400, "parsing"),
    (b"9" * 5000, 400, "parsing"),
    ({"query": ""}, 422, "at least 1"),
    ({"query": " \n"}, 422, "blank"),
    ({"query": "a\0"}, 422, "pattern"),
    ({"query": "x" * 513}, 422, "at most 512"),
    ({"query": 5}, 422, "string"),
    (b'{"query": "\\ud800"}', 422, "unicode"),
    (b'{"query": "x", "\\ud800": 1}', 422, "unicode"),
    (b'{"query": "x", "k": NaN}', 422, "finite"),
    ({"query": "x", "k": 0}, 422, "greater"),
    ({"query": "x", "k": 21}, 422, "at most 20"),
    ({"query": "x", "k": "many"}, 422, "integer"),
    ({"query": "x", "user": ""}, 422, "at least 1"),
    ({"query": "x", "user": "u" * 257}, 422, "at most 256"),
    ({"query": "x", "arm": "both"}, 422, "control"),
    ({"query": "x", "colour": "red"}, 422, "Extra"),
    ({"query": "x", "filters": {"color": "red"}}, 422, "Extra"),
    ({"query": "x", "filters": {"brand": []}}, 422, "at least 1"),
    ({"query": "x", "filters": {"brand": "a\nb"}}, 422, "pattern"),
    ({"query": "x", "filters": {"price": {"min": "cheap"}}}, 422, "number"),
    (b'{"query": "x", "filters": {"price": {"min": Infinity}}}', 422, "finite"),
    ({"query": "x", "filters": {"signals": {"rating": {}}}}, 422, "pattern"),
    ({"query": "x", "filters": {"signals": {"signal_none": {"min": 1}}}}, 422, "signal_none"),
    (json.dumps({"query": "x" * 200_000}).encode(), 413, "100,000 bytes"),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD, ids=range(len(BAD)))
def test_bad_searches_are_4xx_and_say_why(gateway: Gateway, body: object, status: int, words: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = httpx.post(
        f"{gateway.url}/search", content=content, headers={"content-type": "application/json"}, timeout=60
    )
    assert reply.status_code == status, reply.text
    assert words in reply.text


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"events": []},
        {"type": "view", "request_id": "r"},
        {"type": "click"},
        {"type": "click", "request_id": ""},
        {"type": "click", "request_id": "r" * 65},
        {"type": "click", "request_id": "r", "position": 0},
        {"type": "click", "request_id": "r", "who": "me"},
        {"type": "click", "request_id": "r", "value": "free"},
        {"type": "purchase", "request_id": "r", "value": 1.7e308},
        {"type": "purchase", "request_id": "r", "value": 1.1e12},
        {"type": "purchase", "request_id": "r", "value": -0.01},
        [{"type": "click", "request_id": "r"}, {"type": "click"}],
        [{"type": "click", "request_id": "r"}] * 1001,
        "click",
        None,
    ],
)
def test_bad_events_are_422_and_none_of_them_is_taken(gateway: Gateway, body: object) -> None:
    before = gateway.metric("taoemb_gateway_events_total")
    assert httpx.post(f"{gateway.url}/events", json=body).status_code == 422
    assert gateway.metric("taoemb_gateway_events_total") == before


def test_unknown_query_parameters_are_refused(gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.url}/search", params={"query": "x", "filter": "price > 1"}).status_code == 422
    assert httpx.get(f"{gateway.url}/search").status_code == 422
    assert httpx.delete(f"{gateway.url}/search").status_code == 405


def test_it_is_ready_only_while_an_encoder_of_the_control_answers(gateway: Gateway, ab: Traffic) -> None:
    gone = Arm(ab.control.release, (f"http://127.0.0.1:{free_port()}",))
    gateway.obey(dataclasses.replace(ab, control=gone, rollout="gone"))
    refused = httpx.get(f"{gateway.url}/readyz", timeout=30)
    assert refused.status_code == 503
    assert "no encoder: " in refused.text
    assert httpx.get(f"{gateway.url}/healthz").status_code == 200
    gateway.obey(dataclasses.replace(ab, rollout="back"))
    assert httpx.get(f"{gateway.url}/readyz", timeout=30).status_code == 200


def test_operators_see_health_traffic_metrics_and_the_api(gateway: Gateway, ab: Traffic) -> None:
    gateway.obey(ab)
    assert httpx.get(f"{gateway.url}/healthz").json() == {"status": "alive"}
    assert httpx.get(f"{gateway.url}/readyz").json() == {"status": "ready"}
    shown = httpx.get(f"{gateway.url}/traffic").json()
    assert shown["control"] == {"release": ab.control.release, "urls": list(ab.control.urls)}
    assert (shown["source"], shown["problem"], shown["design"]) == (str(gateway.traffic_file), "", "ab")
    gateway.search()
    for part in ("total", "encoder", "search", "gateway"):
        assert gateway.metric("taoemb_gateway_search_seconds_count", part=part) > 0
    assert gateway.metric("taoemb_gateway_candidate_percent") == 50
    assert gateway.metric("taoemb_gateway_searches_under_way") == 0
    api = httpx.get(f"{gateway.url}/openapi.json").json()
    assert set(api["paths"]) == {"/search", "/events", "/healthz", "/readyz", "/traffic", "/metrics"}
    pages = {name: set(api["components"]["schemas"][name]["properties"]) for name in ("Page", "ToldPage")}
    assert pages["ToldPage"] >= {"request_id", "served", "release", "items"}
    assert pages["Page"] == {"request_id", "unit", "items", "timings"}  # shoppers are not told which arm they see
    assert httpx.get(f"{gateway.url}/docs").status_code == 200
