"""The encoder client: replicas take turns and rest after failures, and no vector of another release comes through."""

import asyncio
import base64
import json
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from taoemb.serving.arms import COOL_S, MOST_COOL_S, ArmFailure, EncoderClient
from taoemb.serving.traffic import Arm

DIGEST = "d" * 64
VECTOR = np.arange(1, 9, dtype="<f4")
Handler = Callable[[httpx.Request], httpx.Response]


class Time:
    """A clock that tests set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def embedding(vector: np.ndarray = VECTOR) -> str:
    return base64.b64encode(vector.tobytes()).decode()


def reply(header: str | None = DIGEST, content: bytes | None = None, **body: object) -> httpx.Response:
    answer = {"data": [{"embedding": embedding()}], "release": DIGEST} | body
    headers = {} if header is None else {"x-taoemb-release": header}
    return httpx.Response(200, headers=headers, content=json.dumps(answer).encode() if content is None else content)


def client(handler: Handler, clock: Time | None = None, wrong: list[int] | None = None) -> EncoderClient:
    noted = [] if wrong is None else wrong
    transport = httpx.MockTransport(handler)
    return EncoderClient(0.5, 10, on_wrong_release=lambda: noted.append(1), transport=transport, clock=clock or Time())


def ask(encoders: EncoderClient, *hosts: str, insist: bool = False) -> np.ndarray:
    return asyncio.run(encoders.embed(Arm(DIGEST, tuple(f"http://{host}" for host in hosts)), "sofa", insist=insist))


def test_it_asks_as_the_contract_says_and_reads_the_vector() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return reply()

    vectors = ask(client(handler), "one:8090")
    np.testing.assert_array_equal(vectors, VECTOR[None])
    assert vectors.dtype == np.float32
    [request] = seen
    assert str(request.url) == "http://one:8090/openai/v1/embeddings"
    assert json.loads(request.content) == {"model": "encoder", "input": "sofa", "encoding_format": "base64"}


BAD = {
    "no header": (lambda: reply(None), "digest"),
    "other header": (lambda: reply("e" * 64), "digest"),
    "the digest's start": (lambda: reply(DIGEST[:-1]), "digest"),
    "other body": (lambda: reply(release="e" * 64), "digest"),
    "not JSON": (lambda: reply(content=b"<html>"), "malformed"),
    "a list": (lambda: reply(content=b"[]"), "malformed"),
    "no data": (lambda: reply(data=[]), "malformed"),
    "two vectors": (lambda: reply(data=[{"embedding": embedding()}] * 2), "malformed"),
    "floats": (lambda: reply(data=[{"embedding": [0.5, 0.5]}]), "malformed"),
    "not base64": (lambda: reply(data=[{"embedding": "!!!!"}]), "malformed"),
    "half a float": (lambda: reply(data=[{"embedding": base64.b64encode(b"abc").decode()}]), "malformed"),
    "empty": (lambda: reply(data=[{"embedding": ""}]), "malformed"),
    "infinite": (lambda: reply(data=[{"embedding": embedding(np.full(4, np.inf, "<f4"))}]), "malformed"),
    "zero": (lambda: reply(data=[{"embedding": embedding(np.zeros(4, "<f4"))}]), "malformed"),
    "busy": (lambda: httpx.Response(429), "status"),
    "redirect": (lambda: httpx.Response(307, headers={"location": "http://two"}), "status"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_reply_is_a_failure_of_its_kind(case: str) -> None:
    answer, reason = BAD[case]
    wrong: list[int] = []
    with pytest.raises(ArmFailure) as failed:
        ask(client(lambda request: answer(), wrong=wrong), "one")
    assert failed.value.reason == reason
    assert len(wrong) == (reason == "digest")


def test_replicas_take_turns() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return reply()

    encoders = client(handler)
    for _ in range(6):
        ask(encoders, "one", "two", "three")
    assert sorted(asked) == ["one", "one", "three", "three", "two", "two"]


def test_a_failed_replica_rests_twice_as_long_each_time_and_is_asked_again() -> None:
    clock, asked, broken = Time(), [], True

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(500) if broken else reply()

    encoders = client(handler, clock)
    rest = COOL_S
    for _ in range(8):
        with pytest.raises(ArmFailure, match="500"):
            ask(encoders, "one")
        clock.now += rest * 0.9
        with pytest.raises(ArmFailure) as cooling:
            ask(encoders, "one")
        assert cooling.value.reason == "cooling"
        clock.now += rest * 0.2
        rest = min(2 * rest, MOST_COOL_S)
    assert len(asked) == 8
    with pytest.raises(ArmFailure, match="500"):
        ask(encoders, "one")
    broken = False
    ask(encoders, "one", insist=True)  # a control is asked even while it rests, and its answer ends the rest
    ask(encoders, "one")


def test_who_rests_is_asked_last() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return reply() if request.url.host == "good" else httpx.Response(500)

    encoders = client(handler)
    for _ in range(4):
        ask(encoders, "bad", "good", insist=True)
    assert asked.count("good") == 4
    assert asked.count("bad") <= 1


def test_a_kept_connection_that_was_closed_is_no_failure() -> None:
    tries: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        tries.append(1)
        if len(tries) == 1:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        return reply()

    ask(client(handler), "one")
    assert len(tries) == 2


def test_silence_ends_at_the_timeout() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        return reply()

    with pytest.raises(ArmFailure) as failed:
        ask(client(handler), "one")
    assert failed.value.reason == "timeout"


@pytest.mark.parametrize("url", ["not a url", "", "ftp://one", "http://"])
def test_an_address_that_is_none_is_unreachable(url: str) -> None:
    encoders = EncoderClient(1, 10)
    with pytest.raises(ArmFailure) as failed:
        asyncio.run(encoders.embed(Arm(DIGEST, (url,)), "sofa"))
    assert failed.value.reason == "unreachable"
    with pytest.raises(ArmFailure):
        asyncio.run(encoders.embed(Arm(DIGEST, ()), "sofa"))
