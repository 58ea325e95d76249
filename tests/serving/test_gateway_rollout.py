"""Under load a rollout starts, steps, is promoted and rolled back, encoders die, the gateway restarts: no search fails.

Every reply is checked: it was answered, and each release in it searched the collection that it is bound to.
"""

import os
import signal
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from taoemb.serving.assignment import place
from taoemb.serving.traffic import Arm, Traffic
from tests.serving.gateway_shop import Gateway, Load, Shop, StubEncoder, recorded, rows, running_gateway, wait_until

Encoders = dict[str, StubEncoder]


@pytest.fixture
def gateway(gateway_shop: Shop, gateway_encoders: Encoders, tmp_path: Path) -> Iterator[Gateway]:
    traffic = Traffic(gateway_encoders["base"].arm)
    with running_gateway(
        tmp_path / "gateway", gateway_shop.copy(tmp_path), traffic, "gateway.patience_s=40"
    ) as running:
        yield running


def served(pages: list[dict]) -> set[str]:
    return {page["served"] for page in pages}


def test_a_whole_rollout_under_load(gateway: Gateway, gateway_shop: Shop, gateway_encoders: Encoders) -> None:
    base, other, query_only = (gateway_encoders[name] for name in ("base", "other", "query_only"))

    def step(percent: float) -> Traffic:
        return Traffic(base.arm, other.arm, percent, "ab", "first", "salt")

    with Load(gateway.url, gateway_shop.collections) as load:
        assert served(load.more()) == {"control"}
        gateway.obey(step(0))
        assert served(load.more()) == {"control"}
        for percent in (20.0, 50.0):
            gateway.obey(step(percent))
            for page in load.more(100):
                expected = "candidate" if place("salt", page["unit"]) < percent else "control"
                assert (page["assigned"], page["served"]) == (expected, expected)
        gateway.obey(Traffic(other.arm, rollout="", salt="promoted"))
        assert {page["release"] for page in load.more()} == {other.digest}
        gateway.obey(Traffic(other.arm, query_only.arm, 60.0, "ab", "second", "again"))
        assert {page["release"] for page in load.more(60)} == {other.digest, query_only.digest}
        gateway.obey(Traffic(other.arm, salt="rolled back"))
        assert {page["release"] for page in load.more()} == {other.digest}
    assert load.failures == []
    assert gateway.metric("taoemb_gateway_fallbacks_total") == 0
    found = recorded(gateway.folder, "pages", len(load.pages))
    assert sorted(row["request_id"] for row in found) == sorted(page["request_id"] for page in load.pages)


def test_encoders_that_die_and_come_back_under_load(
    gateway: Gateway, gateway_shop: Shop, gateway_encoders: Encoders
) -> None:
    base, other = gateway_encoders["base"], gateway_encoders["other"]
    gateway.obey(Traffic(base.arm, other.arm, 50.0, "ab", "outages", "salt"))
    with Load(gateway.url, gateway_shop.collections) as load:
        other.server.down()
        assert served(load.more()) == {"control"}
        other.server.up()
        wait_until(lambda: served(load.more(20)) == {"control", "candidate"})
        base.server.down()
        assert served(load.more()) == {"candidate"}
        base.server.up()
        wait_until(lambda: served(load.more(20)) == {"control", "candidate"})
        # The candidate is promoted while the control is dead, as a process that is replaced.
        base.server.down()
        gateway.obey(Traffic(other.arm, salt="promoted"))
        assert served(load.more()) == {"control"}
        base.server.up()
    assert load.failures == []


def test_both_arms_away_for_a_while_are_waited_for(
    gateway: Gateway, gateway_shop: Shop, gateway_encoders: Encoders
) -> None:
    base = gateway_encoders["base"]
    with Load(gateway.url, gateway_shop.collections) as load:
        load.more(20)
        base.server.down()
        wait_until(lambda: gateway.metric("taoemb_gateway_searches_under_way") == load.clients)
        base.server.up()
        load.more(20)
    assert load.failures == []


def test_a_wrong_release_behind_an_arms_address_is_never_searched_with(
    gateway: Gateway, gateway_shop: Shop, gateway_encoders: Encoders
) -> None:
    """The address of the candidate is taken over by another release's encoder."""
    base, other, query_only = (gateway_encoders[name] for name in ("base", "other", "query_only"))
    with Load(gateway.url, gateway_shop.collections) as load:
        gateway.obey(Traffic(base.arm, Arm(query_only.digest, other.arm.urls), 50.0, "ab", "swapped", "salt"))
        pages = load.more()
    assert {page["release"] for page in pages} == {base.digest}
    assert {page["assigned"] for page in pages} == {"control", "candidate"}
    assert load.failures == []
    assert gateway.metric("taoemb_gateway_digest_mismatches_total") >= 1


def test_a_restart_of_the_workers_loses_no_search_and_no_row(
    gateway: Gateway, gateway_shop: Shop, gateway_encoders: Encoders
) -> None:
    base, other = gateway_encoders["base"], gateway_encoders["other"]
    gateway.obey(Traffic(base.arm, other.arm, 50.0, "ab", "restarted", "salt"))
    with Load(gateway.url, gateway_shop.collections) as load:
        load.more(20)
        for _ in range(2):
            before = gateway.worker()
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(lambda: not os.path.exists(f"/proc/{before}"), 200)  # noqa: B023
            assert served(load.more()) == {"control", "candidate"}
    assert load.failures == []
    found = recorded(gateway.folder, "pages", len(load.pages))
    assert sorted(row["request_id"] for row in found) == sorted(page["request_id"] for page in load.pages)


def test_a_killed_worker_is_replaced(gateway: Gateway, gateway_shop: Shop) -> None:
    before = gateway.worker()
    request_id = gateway.search().json()["request_id"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: gateway.worker() not in (None, before), 200)
    assert gateway.search().status_code == 200
    wait_until(lambda: any(row["request_id"] == request_id for row in rows(gateway.folder, "pages")))


def test_a_leaving_worker_answers_once_more_on_connections_that_were_idle(gateway: Gateway) -> None:
    def connect() -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", httpx.URL(gateway.url).port, timeout=60)
        connection.connect()
        return connection

    def says_that_it_closes(connection: HTTPConnection) -> bool:
        connection.request("GET", "/healthz")
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, b'{"status":"alive"}')
        return reply.getheader("connection") == "close"

    busy, fresh, used = connect(), connect(), connect()
    assert not says_that_it_closes(busy)
    assert not says_that_it_closes(used)
    worker = gateway.worker()
    assert worker is not None
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: says_that_it_closes(busy))
    assert says_that_it_closes(fresh)
    assert says_that_it_closes(used)


def test_sigterm_ends_it_after_what_is_under_way(gateway: Gateway, gateway_encoders: Encoders) -> None:
    with httpx.Client(timeout=60) as http:
        assert http.get(f"{gateway.url}/healthz").status_code == 200
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{gateway.url}/healthz")
