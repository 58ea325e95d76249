"""Whatever keeps a judge from grading, the one line says it: the server's words, the host, the port, the wait."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from taoemb.cli.main import main
from taoemb.judge.client import JudgeUnavailable
from taoemb.judge.probe import probe
from taoemb.judge.replies import Refused, Reply, Transient, seconds_to_wait, words
from tests.judge.clients import client, items
from tests.judge.graded_shop import colour_shop
from tests.judge.stub import Stub, free_port, serving

QUOTA = {"error": {"message": "You exceeded your current quota, please check your plan", "code": "insufficient_quota"}}
NO_HOST = "no-such-host.invalid"


def answers(status: int, body: object, **headers: str) -> Stub:
    """A judge that lists its model, and answers every question with this."""
    made = JSONResponse(body, status, headers) if isinstance(body, dict) else PlainTextResponse(str(body), status)
    return Stub(fault=lambda pairs: made)


@contextmanager
def closed_port(scheme: str = "http") -> Iterator[str]:
    yield f"{scheme}://127.0.0.1:{free_port()}/v1"


@contextmanager
def tls_for_a_plain_port() -> Iterator[str]:
    with serving(Stub()) as url:
        yield url.replace("http:", "https:")


@contextmanager
def own_certificate() -> Iterator[str]:
    """A TLS server whose certificate nobody knows."""
    with TemporaryDirectory() as folder:
        key, certificate = f"{folder}/key.pem", f"{folder}/certificate.pem"
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
        made = subprocess.run(
            [*command.split(), "-keyout", key, "-out", certificate], capture_output=True, timeout=30, check=False
        )
        assert made.returncode == 0, made.stderr
        with serving(Stub(), ssl_keyfile=key, ssl_certfile=certificate) as url:
            yield url.replace("http:", "https:")


CAUSES: dict[str, tuple[Callable, dict, str]] = {
    "quota": (lambda: serving(answers(429, QUOTA)), {}, r'HTTP 429 "You exceeded your current quota, please check'),
    "host": (lambda: nullcontext(f"http://{NO_HOST}/v1"), {}, rf"last failure: {NO_HOST}: \w+.*(not known|resolution)"),
    "port": (closed_port, {}, "last failure: Connection refused"),
    "tls": (tls_for_a_plain_port, {}, r"last failure: TLS: .*(wrong version|record layer)"),
    "certificate": (own_certificate, {}, r"last failure: TLS: .*self.signed certificate"),
    "slow": (lambda: serving(Stub(delay_s=9)), {"timeout_s": 0.1}, r"no answer within judge\.timeout_s=0\.1 s"),
    "error in a 200": (
        lambda: serving(answers(200, {"error": {"message": "engine died"}})),
        {},
        'HTTP 200 "engine died"',
    ),
    "a page": (lambda: serving(answers(200, "<html>Sign in</html>")), {}, 'HTTP 200 "<html>Sign in</html>" is no JSON'),
    "half an answer": (lambda: serving(answers(200, '{"choices": [{"index": 0, ')), {}, "is no JSON"),
    "a stream": (lambda: serving(answers(200, 'data: {"id": "x"}\n\ndata: [DONE]')), {}, "data: .* is no JSON"),
    "bad gateway": (lambda: serving(answers(502, "<h1>upstream</h1>")), {}, 'HTTP 502 "<h1>upstream</h1>"'),
    "detail": (lambda: serving(answers(503, {"detail": "model is loading"})), {}, 'HTTP 503 "model is loading"'),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_awkward_causes_are_in_the_line(cause: str) -> None:
    place, settings, says = CAUSES[cause]
    with place() as url, client(url, wait_s=0.3, **settings) as judge:
        started = time.monotonic()
        with pytest.raises(JudgeUnavailable, match=says) as failure:
            probe(judge)
        assert time.monotonic() - started < 3
    assert "\n" not in str(failure.value)
    assert url in str(failure.value)


NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 0.5 ", 0.5),
        ("86400", 86_400.0),
        ("9" * 400, 1e9),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW + timedelta(days=30_000), usegmt=True), 1e9),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), None),
        *((odd, None) for odd in ("", "0", "-5", "-1e9", "soon", "nan", "inf", "1e3", "7 s", "٣", "Thu, 99 Foo 2030")),
    ],
)
def test_awkward_retry_after(header: str, seconds: float | None) -> None:
    assert seconds_to_wait(header, NOW.timestamp()) == seconds


@pytest.mark.parametrize("header", ["86400", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_awkward_retry_after_ends_with_the_patience(header: str, caplog: pytest.LogCaptureFixture) -> None:
    stub = answers(429, {"error": {"message": "try again in 24h"}}, **{"retry-after": header})
    with serving(stub) as url, client(url, wait_s=0.4) as judge:
        started = time.monotonic()
        with pytest.raises(JudgeUnavailable, match='HTTP 429 "try again in 24h"'):
            judge.grade(["q"], items("t"))
        assert 0.3 < time.monotonic() - started < 2
    said = [record.getMessage() for record in caplog.records]
    assert sum("asks for" in line and "try again in 24h" in line for line in said) == 1


@pytest.mark.parametrize("header", ["-5", "0", "Tue, 01 Jan 1980 00:00:00 GMT", "soon", "nan"])
def test_awkward_retry_after_that_asks_for_nothing_is_a_plain_retry(header: str) -> None:
    once = iter([JSONResponse({}, 429, {"retry-after": header})])
    with serving(Stub(fault=lambda pairs: next(once, None))) as url, client(url) as judge:
        judged = judge.grade(["q"], items("t"))
    assert judged.unanswered == 0
    assert judged.seconds < 1


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"error": {"message": "x", "code": 400}}, True),
        ({"error": {"message": "x", "code": "404"}}, True),
        ({"object": "error", "message": "x", "code": 400}, True),
        ({"error": {"message": "x", "code": "insufficient_quota"}}, False),
        ({"error": {"message": "x", "code": 500}}, False),
        ({"error": "overloaded"}, False),
        ({}, False),
    ],
)
def test_awkward_errors_in_a_200_are_errors(body: dict, refused: bool) -> None:
    reply = Reply(200, "", JSONResponse(body).body)
    with pytest.raises(Refused if refused else Transient, match=r"^HTTP 200"):
        reply.completion()


def test_awkward_error_in_a_200_that_passes_costs_no_pair() -> None:
    once = iter([JSONResponse({"error": {"message": "engine restarts"}}, 200)])
    with serving(Stub(fault=lambda pairs: next(once, None))) as url, client(url) as judge:
        assert judge.grade(["q"], items("t")).unanswered == 0


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x1b[2J", b"[" * 100_000, b'{"error": null}', b'{"error": [1]}', b"\n\n", b'"x"', "ü".encode()],
)
def test_awkward_words_of_a_body_are_one_short_line(content: bytes) -> None:
    said = words(content)
    assert said.isprintable()
    assert len(said) <= 200


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_shop(tmp_path_factory.mktemp("causes") / "data", source="human")


def calibrate(data: Path, url: str, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    arguments = ["judge", "calibrate", "--data", str(data), "--judge-url", url, "--out", str(out)]
    with pytest.raises(SystemExit) as done:
        main([*arguments, *(part for one in ("judge.wait_s=0.3", *more) for part in ("--set", one))])
    said = capsys.readouterr().err.strip().splitlines()
    assert isinstance(done.value.code, int)
    return done.value.code, said[-1]


@pytest.mark.parametrize("cause", ["quota", "port"])
def test_awkward_causes_at_the_command(
    cause: str, graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, _, says = CAUSES[cause]
    with place() as url:
        code, said = calibrate(graded, url, tmp_path / "out", capsys)
    assert code == 1
    assert said.startswith("taoemb: the judge at")
    assert says.removeprefix("last failure: ") in said
    assert not (tmp_path / "out").exists()


def thinking(answer: dict) -> dict:
    """A model that thinks first: the labels hold next to nothing."""
    entries = [{"token": "<think>", "logprob": -1e-7}, {"token": "4", "logprob": -19.0}]
    content = [entries[0] | {"top_logprobs": entries}]
    return answer | {"choices": [one | {"logprobs": {"content": content}} for one in answer["choices"]]}


def test_awkward_model_that_thinks_at_the_command(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = Stub(change=thinking)
    with serving(stub) as url:
        code, said = calibrate(graded, url, tmp_path / "out", capsys)
    assert code == 1
    assert "answered none of the pairs, of 16 tried first" in said
    assert "the first token is '<think>'" in said
    assert "judge.extra_body={chat_template_kwargs: {enable_thinking: false}}" in said
    assert len(stub.requests) <= 16
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("url", ["ftp://x/v1", "http://", "http://x:port/v1", "x.example/v1", "http://[::1/v1"])
def test_awkward_urls_are_bad_usage(url: str, graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = calibrate(graded, url, tmp_path / "out", capsys)
    assert code == 2
    assert "judge.url" in said
    assert not (tmp_path / "out").exists()
