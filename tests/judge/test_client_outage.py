"""The client against a judge that is busy, restarts, is gone for good, or comes back as another one."""

import concurrent.futures
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse, PlainTextResponse, Response

from taoemb.judge.client import JudgeChanged, JudgeUnavailable
from tests.judge.clients import by_title, client, items, numbered
from tests.judge.stub import Stub, free_port, serving


def test_a_busy_judge_costs_time_and_no_answers() -> None:
    """Far more 503s than a pair has retries, while other pairs are answered."""
    refused: dict[str, int] = {}

    def fault(pairs: list[tuple[str, str]]) -> Response | None:
        query = pairs[0][0]
        refused[query] = refused.get(query, 0) + 1
        return PlainTextResponse("busy", 503) if query == "query 3" and refused[query] < 10 else None

    stub = Stub(fault=fault, delay_s=0.01)
    with serving(stub) as url, client(url, concurrency=2) as judge:
        assert judge.grade(*numbered(60)).unanswered == 0
    assert refused["query 3"] == 10


def test_a_judge_that_dies_and_comes_back_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    stub, back = Stub(delay_s=0.01), Stub()
    port = free_port()
    registry = CollectorRegistry()
    with client(f"http://127.0.0.1:{port}/v1", registry, concurrency=4) as judge:
        with serving(stub, port) as url:
            assert judge.grade(["warm"], items("up")).unanswered == 0
            waiting = judge.submit(*numbered(40))
            time.sleep(0.05)
        time.sleep(0.6)
        assert not waiting.done()
        state = registry.get_sample_value("taoemb_judge_breaker_state", {"judge": url})
        failed = registry.get_sample_value("taoemb_judge_requests_total", {"judge": url, "result": "error"})
        with serving(back, port):
            judged = waiting.result(10)
    assert judged.unanswered == 0
    assert state in (1, 2)
    assert failed is not None
    assert failed < 100  # one probe each 50 ms, not 40 pairs trying every 20 ms
    assert 40 <= len(stub.pairs) - 1 + len(back.pairs) <= 40 + 4  # pairs whose answer was lost are asked again
    said = [record.getMessage() for record in caplog.records]
    assert 1 <= sum("is away" in line for line in said) == sum("is back" in line for line in said) <= 3


def test_a_judge_gone_for_good_is_given_up_in_time(tmp_path: Path) -> None:
    stub = Stub(grade=by_title)
    with client(f"http://127.0.0.1:{free_port()}/v1", wait_s=0.5, release="d", cache=tmp_path / "c") as judge:
        started = time.monotonic()
        with pytest.raises(
            JudgeUnavailable, match=r"the judge at http://.*/v1 has not answered for \d+ s; .*judge\.wait_s"
        ):
            judge.grade(*numbered(50))
        assert 0.4 < time.monotonic() - started < 2
    port = free_port()
    with client(f"http://127.0.0.1:{port}/v1", wait_s=0.3, concurrency=1, cache=tmp_path / "c2") as judge:
        with serving(stub, port):
            judge.grade(*numbered(3))
        with pytest.raises(JudgeUnavailable):
            judge.grade(*numbered(6))
        with serving(stub, port):  # a later call finds it again
            judged = judge.grade(*numbered(6))
    assert (judged.cached, judged.asked, judged.unanswered) == (3, 3, 0)


def test_answers_before_the_end_are_kept(tmp_path: Path) -> None:
    def fault(pairs: list[tuple[str, str]]) -> Response | None:
        return PlainTextResponse("away", 503) if int(pairs[0][0].split()[-1]) >= 5 else None

    stub = Stub(fault=fault)
    with serving(stub) as url, client(url, wait_s=0.3, concurrency=1, cache=tmp_path / "c") as judge:
        with pytest.raises(JudgeUnavailable):
            judge.grade(*numbered(8))
        stub.fault = lambda pairs: None
        assert judge.grade(*numbered(8)).cached == 5


def test_answers_while_503_is_waited_for_not_charged_to_the_pairs() -> None:
    stub = Stub(fault=lambda pairs: PlainTextResponse("loading", 503))
    with serving(stub) as url, client(url, batch_size=4) as judge:
        waiting = judge.submit(*numbered(8))
        time.sleep(0.5)
        assert not waiting.done()
        stub.fault = lambda pairs: None
        assert waiting.result(5).unanswered == 0


class TestRelease:
    """What names the judge."""

    @pytest.mark.parametrize(
        ("models", "release"),
        [
            ([{"id": "judge", "taoemb_digest": "abc"}], "abc"),
            ([{"id": "judge", "digest": "abc"}], "abc"),
            ([{"id": "Qwen/Qwen3-8B", "root": "Qwen/Qwen3-8B"}], "Qwen/Qwen3-8B"),
            ([{"id": "llm", "root": "Qwen/Qwen3-8B"}], "Qwen/Qwen3-8B"),
            ([{"id": "other", "digest": "x"}, {"id": "judge", "digest": "abc"}], "abc"),
        ],
    )
    def test_is_read_from_the_models(self, models: list[dict], release: str) -> None:
        with serving(Stub(models=lambda: {"data": models})) as url, client(url) as judge:
            assert judge.release == release

    def test_is_what_the_settings_say(self) -> None:
        with client(f"http://127.0.0.1:{free_port()}/v1", release="mine") as judge:
            assert judge.release == "mine"

    def test_is_waited_for(self) -> None:
        port = free_port()
        with client(f"http://127.0.0.1:{port}/v1") as judge, concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: judge.release)
            time.sleep(0.2)
            with serving(Stub(), port):
                assert waiting.result(5) == "d1"

    def test_is_not_waited_for_for_ever(self) -> None:
        judge = client(f"http://127.0.0.1:{free_port()}/v1", wait_s=0.2)
        with judge, pytest.raises(JudgeUnavailable, match="has not answered"):
            _ = judge.release

    @pytest.mark.parametrize(
        "models", [{}, {"data": []}, {"data": ["x"]}, JSONResponse({}, 404), JSONResponse({}, 400)]
    )
    def test_a_judge_without_models_must_be_named(self, models: object) -> None:
        with (
            serving(Stub(models=lambda: models)) as url,
            client(url) as judge,
            pytest.raises(JudgeUnavailable, match=url),
        ):
            _ = judge.release

    def test_another_judge_behind_the_url_is_noticed(self) -> None:
        port = free_port()
        with client(f"http://127.0.0.1:{port}/v1") as judge:
            with serving(Stub(), port):
                judge.grade(["q"], items("t"))
            waiting = judge.submit(*numbered(6))
            time.sleep(0.2)
            other = Stub(models=lambda: {"data": [{"id": "judge", "digest": "d2"}]})
            with serving(other, port), pytest.raises(JudgeChanged, match="changed from d1 to d2"):
                waiting.result(5)
