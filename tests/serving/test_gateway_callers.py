"""Who a client is, and how much one may send: by arithmetic on a clock that the test moves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.config import GatewayConfig
from taoemb.serving.gateway import callers
from taoemb.serving.gateway.callers import Caller, Limits, NewUnits, TokenBuckets, caller_of

SHOPPER = "1.2.3.4"


def scope(peer: str = "10.0.0.7", forwarded: tuple[str, ...] = (), agent: str = "") -> dict:
    headers = [(b"x-forwarded-for", one.encode()) for one in forwarded] + [(b"user-agent", agent.encode())]
    return {"type": "http", "headers": headers, "client": (peer, 1)}


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        (SHOPPER, (), 0, SHOPPER),
        (SHOPPER, ("9.9.9.9",), 0, SHOPPER),  # nobody is believed unless the setting says so
        ("10.0.0.7", ("9.9.9.9",), 0, None),
        ("10.0.0.7", (f"9.9.9.9, {SHOPPER}",), 1, SHOPPER),  # what a client wrote stands before what the proxy added
        ("10.0.0.7", ("9.9.9.9", SHOPPER), 1, SHOPPER),
        ("10.0.0.7", (f"9.9.9.9,{SHOPPER},10.1.1.1",), 2, SHOPPER),
        ("10.0.0.7", ("9.9.9.9",), 2, None),  # it did not come through both proxies
        ("10.0.0.7", (f"{SHOPPER}:4711",), 1, SHOPPER),
        ("10.0.0.7", ("[2606:4700:1::9]:80",), 1, "2606:4700:1::/64"),
        ("2606:4700:1::9", (), 0, "2606:4700:1::/64"),
        ("2606:4700:1:0:ff::1", (), 0, "2606:4700:1::/64"),
        (f"::ffff:{SHOPPER}", (), 0, SHOPPER),
        ("127.0.0.1", (), 0, None),
        ("10.0.0.7", ("anything",), 1, None),
        ("10.0.0.7", ("",), 1, None),
        ("100.64.0.9", (), 0, None),
    ],
)
def test_a_client_is_the_nearest_address_that_can_be_believed(peer, forwarded, proxies, address):
    assert caller_of(scope(peer, forwarded), proxies) == Caller(address, False)


def test_a_request_without_a_peer_is_the_shops_own():
    assert caller_of({"type": "http", "headers": [], "client": None}, 1) == Caller(None, False)


@pytest.mark.parametrize(
    ("agent", "robot"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", True),
        ("Mozilla/5.0 (compatible; bingbot/2.0)", True),
        ("Mozilla/5.0 HeadlessChrome/120", True),
        ("AhrefsBot", True),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120 Safari/537.36", False),
        ("Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) Chrome/120", False),  # a telephone
        ("", False),
    ],
)
def test_robots_that_say_so_are_known(agent, robot):
    assert caller_of(scope(agent=agent), 0).robot is robot


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 8)), max_size=60), st.floats(0.5, 5), st.floats(1, 4))
def test_a_bucket_never_gives_more_than_its_burst_and_rate(asked, rate, burst_s):
    now = 0.0
    buckets = TokenBuckets(rate, burst_s, clock=lambda: now)
    most, given_out = max(1.0, rate * burst_s), 0
    for pause, tokens in asked:
        now += pause
        wait_s = buckets.take(SHOPPER, tokens)
        if wait_s == 0:
            given_out += tokens
            assert given_out <= most + now * rate + 1e-6
        elif math.isinf(wait_s):
            assert tokens > most
        else:
            now += wait_s + 1e-6
            assert buckets.take(SHOPPER, tokens) == 0, "who waits as told is served"
            given_out += tokens


def test_buckets_are_a_clients_own_and_forget_the_oldest(monkeypatch):
    monkeypatch.setattr(callers, "_CLIENTS", 3)
    buckets = TokenBuckets(1, 1, clock=lambda: 0.0)
    assert buckets.take("a") == 0 < buckets.take("a")
    assert [buckets.take(client) for client in "bcd"] == [0, 0, 0]
    assert len(buckets._left) == 3
    assert buckets.take("d") > 0, "still known"


def test_the_shops_own_servers_and_a_rate_of_0_have_no_limit():
    limited, free = TokenBuckets(1, 1, clock=lambda: 0.0), TokenBuckets(0, 1)
    assert [limited.take(None) for _ in range(9)] == [free.take(SHOPPER) for _ in range(9)] == [0] * 9


def test_a_client_that_makes_up_sessions_has_few_of_them_measured():
    now = 0.0
    units = NewUnits(3, clock=lambda: now)
    assert [units.admit(SHOPPER, f"s{n}") for n in range(5)] == [True] * 3 + [False] * 2
    assert units.admit(SHOPPER, "s1"), "a shopper who was let in stays in"
    assert units.admit("4.3.2.1", "s4"), "another client has its own"
    assert all(units.admit(None, f"s{n}") for n in range(9))
    now = 3601
    assert units.admit(SHOPPER, "s4"), "an hour later"


def test_robots_are_never_measured():
    limits = Limits(GatewayConfig(client_units=1))
    assert limits.unmeasured(Caller(None, True), "u") == "robot"
    assert [limits.unmeasured(Caller(SHOPPER, False), unit) for unit in "aab"] == [None, None, "units"]
