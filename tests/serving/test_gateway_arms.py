"""The encoder client: replicas take turns and rest after failures, and no vector of another release comes through."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from taoemb.rollout.simulate.servers import LoopbackServer
from taoemb.serving.gateway.arms import ArmFailure, EncoderClient
from taoemb.serving.gateway.rests import COOL_S, MOST_COOL_S
from taoemb.serving.traffic import Arm
from tests.judge.stub import free_port

DIGEST = "d" * 64
VECTOR = np.arange(1, 9, dtype="<f4")


def embedding(vector: np.ndarray = VECTOR) -> str:
    return base64.b64encode(vector.tobytes()).decode()


def reply(header: str | None = DIGEST, content: bytes | None = None, **body: object) -> Response:
    answer = {"data": [{"embedding": embedding()}], "release": DIGEST} | body
    headers = {} if header is None else {"x-taoemb-release": header}
    return Response(json.dumps(answer) if content is None else content, headers=headers)


class Replicas:
    """Encoders by name on one real server, and a client that asks them at a time that tests set."""

    def __init__(self, server: LoopbackServer, runner: asyncio.Runner) -> None:
        self._url, self._runner = server.url, runner
        self.answer: Callable[[str], Response] = lambda name: reply()
        self.asked: list[str] = []
        self.bodies: list[object] = []
        self.wrong = 0
        self.now = 100.0
        self.client = EncoderClient(20, 10, on_wrong_release=self._note, clock=lambda: self.now)

    def _note(self) -> None:
        self.wrong += 1

    async def handle(self, request: Request) -> Response:
        self.asked.append(request.path_params["name"])
        self.bodies.append(await request.json())
        return self.answer(self.asked[-1])

    def run(self, work: Awaitable) -> np.ndarray:
        async def wait() -> np.ndarray:
            return await work

        return self._runner.run(wait())

    def ask(self, *names: str, insist: bool = False) -> np.ndarray:
        arm = Arm(DIGEST, tuple(f"{self._url}/{name}" for name in names))
        return self.run(self.client.embed(arm, "sofa", insist=insist))


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    async def handle(request: Request) -> Response:
        return await made.handle(request)

    app = Starlette(routes=[Route("/{name}/openai/v1/embeddings", handle, methods=["POST"])])
    with LoopbackServer(app) as server, asyncio.Runner() as runner:
        made = Replicas(server, runner)
        yield made
        runner.run(made.client.close())


def test_it_asks_as_the_contract_says_and_reads_the_vector(replicas: Replicas) -> None:
    vectors = replicas.ask("one")
    np.testing.assert_array_equal(vectors, VECTOR[None])
    assert vectors.dtype == np.float32
    assert replicas.bodies == [{"model": "encoder", "input": "sofa", "encoding_format": "base64"}]


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
    "busy": (lambda: Response(status_code=429), "status"),
    "redirect": (lambda: Response(status_code=307, headers={"location": "/two/openai/v1/embeddings"}), "status"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_reply_is_a_failure_of_its_kind(replicas: Replicas, case: str) -> None:
    answer, reason = BAD[case]
    replicas.answer = lambda name: answer()
    with pytest.raises(ArmFailure) as failed:
        replicas.ask("one")
    assert failed.value.reason == reason
    assert replicas.asked == ["one"]
    assert replicas.wrong == (reason == "digest")


def test_replicas_take_turns(replicas: Replicas) -> None:
    for _ in range(6):
        replicas.ask("one", "two", "three")
    assert sorted(replicas.asked) == ["one", "one", "three", "three", "two", "two"]


def test_a_failed_replica_rests_twice_as_long_each_time_and_is_asked_again(replicas: Replicas) -> None:
    replicas.answer = lambda name: Response(status_code=500)
    rest = COOL_S
    for _ in range(8):
        with pytest.raises(ArmFailure, match="500"):
            replicas.ask("one")
        replicas.now += rest * 0.9
        with pytest.raises(ArmFailure) as cooling:
            replicas.ask("one")
        assert cooling.value.reason == "cooling"
        replicas.now += rest * 0.2
        rest = min(2 * rest, MOST_COOL_S)
    assert len(replicas.asked) == 8
    with pytest.raises(ArmFailure, match="500"):
        replicas.ask("one")
    replicas.answer = lambda name: reply()
    replicas.ask("one", insist=True)  # a control is asked even while it rests, and its answer ends the rest
    replicas.ask("one")


def test_who_rests_is_asked_last(replicas: Replicas) -> None:
    replicas.answer = lambda name: reply() if name == "good" else Response(status_code=500)
    for _ in range(4):
        replicas.ask("bad", "good", insist=True)
    assert replicas.asked.count("good") == 4
    assert replicas.asked.count("bad") <= 1


def test_a_kept_connection_that_was_closed_is_no_failure() -> None:
    """The server takes a second request on a connection, and leaves without an answer."""
    requests: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        content = bytes(reply().body)
        head = f"HTTP/1.1 200 OK\r\nx-taoemb-release: {DIGEST}\r\ncontent-length: {len(content)}\r\n\r\n"
        for number in range(2):
            length = int((await reader.readuntil(b"\r\n\r\n")).lower().partition(b"content-length: ")[2].split()[0])
            await reader.readexactly(length)
            requests.append(number)
            if number == 0:
                writer.write(head.encode() + content)
        writer.close()

    async def ask_twice() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            encoders = EncoderClient(20, 10)
            for _ in range(2):
                await encoders.embed(Arm(DIGEST, (f"http://127.0.0.1:{port}",)), "sofa")
            await encoders.close()

    asyncio.run(ask_twice())
    assert requests == [0, 1, 0]


def test_silence_ends_at_the_timeout(replicas: Replicas) -> None:
    async def ask() -> np.ndarray:
        async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return await EncoderClient(0.2, 10).embed(Arm(DIGEST, (url,)), "sofa")

    with pytest.raises(ArmFailure) as failed:
        replicas.run(ask())
    assert failed.value.reason == "timeout"


@pytest.mark.parametrize("url", ["not a url", "", "ftp://one", "http://", "a free port"])
def test_an_address_where_nobody_listens_is_unreachable(replicas: Replicas, url: str) -> None:
    if url == "a free port":
        url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ArmFailure) as failed:
        replicas.run(replicas.client.embed(Arm(DIGEST, (url,)), "sofa"))
    assert failed.value.reason == "unreachable"


def test_an_arm_without_addresses_fails(replicas: Replicas) -> None:
    with pytest.raises(ArmFailure):
        replicas.ask()
