"""The client against a judge that is fine, slow, broken, overloaded, dead for a while, and gone for good."""

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse, PlainTextResponse, Response

from taoemb.config import JudgeConfig
from taoemb.errors import InputError, TaoembError
from taoemb.judge.client import JudgeClient, JudgeUnavailable, RetryPolicy
from tests.judge.stub import Stub, choice, free_port, serving

FAST = RetryPolicy(
    3, wait_initial=0.01, wait_max=0.02, wait_jitter=0.01, breaker_failures=3, breaker_cooldown=(0.02, 0.05)
)


def client(url: str, registry: CollectorRegistry | None = None, **settings: object) -> JudgeClient:
    config = JudgeConfig.model_validate({"url": url, "wait_s": 5, "timeout_s": 5} | settings)
    return JudgeClient(config, registry=registry or CollectorRegistry(), policy=FAST)


def items(*titles: str) -> list[dict]:
    return [{"title": title} for title in titles]


def numbered(n: int) -> tuple[list[str], list[dict]]:
    return [f"query {i}" for i in range(n)], items(*(f"item {i}" for i in range(n)))


def by_title(query: str, item: str) -> tuple[float, ...]:
    """A grade that tells pairs apart."""
    share = int(item.split()[-1]) / 1000
    return (1 - share, 0.0, 0.0, share)


@pytest.mark.parametrize(("batch_size", "requests"), [(1, 7), (3, 3), (64, 1)])
def test_answers_come_in_the_order_asked(batch_size: int, requests: int) -> None:
    stub = Stub(grade=by_title)
    with serving(stub) as url, client(url, batch_size=batch_size) as judge:
        judged = judge.grade(*numbered(7))
    np.testing.assert_allclose(judged.relevance, np.arange(7) / 1000, atol=1e-6)
    assert judged.grade_probs.shape == (7, 4)
    assert judged.relevance.dtype == judged.grade_probs.dtype == np.float32
    assert (judged.cached, judged.asked, judged.unanswered) == (0, 7, 0)
    assert judged.seconds > 0
    assert len(stub.requests) == requests


def test_a_request_asks_for_one_token_and_its_logprobs(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    stub = Stub()
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    with serving(stub) as url, client(url, api_key_file=key, model="m", extra_body=extra) as judge:
        judge.grade(["q"], items("t"))
    body = stub.requests[0]
    assert {k: body[k] for k in body if k != "messages"} == {
        "model": "m",
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert stub.headers[0]["authorization"] == "Bearer s3cret"


def test_no_pairs_need_no_request() -> None:
    stub = Stub()
    with serving(stub) as url, client(url) as judge:
        judged = judge.grade([], [])
        with pytest.raises(ValueError, match="1 queries for 0 items"):
            judge.submit(["q"], [])
    assert judged.grade_probs.shape == (0, 4)
    assert not stub.requests


def test_equal_pairs_are_asked_once_in_a_call_and_over_calls_in_flight() -> None:
    stub = Stub(delay_s=0.1)
    with serving(stub) as url, client(url) as judge:
        first = judge.submit(["a", "b", "a"], items("x", "x", "x"))
        second = judge.submit(["b", "c"], items("x", "x"))
        one, two = first.result(), second.result()
    assert sorted(stub.pairs) == [(q, "title: x") for q in "abc"]
    assert (one.asked, two.asked) == (2, 1)
    assert not np.isnan(one.relevance).any()
    assert not np.isnan(two.relevance).any()


def test_a_cancelled_call_does_not_take_another_with_it() -> None:
    stub = Stub(delay_s=0.2)
    with serving(stub) as url, client(url) as judge:
        first = judge.submit(["a"], items("x"))
        second = judge.submit(["a"], items("x"))
        time.sleep(0.05)
        assert first.cancel()
        assert second.result(5).unanswered == 0


def test_cache_hits_ask_nothing_also_in_another_client(tmp_path: Path) -> None:
    stub = Stub(grade=by_title)
    registry = CollectorRegistry()
    with serving(stub) as url:
        with client(url, cache=tmp_path / "c") as judge:
            first = judge.grade(*numbered(5))
        asked = len(stub.pairs)
        with client(url, registry, cache=tmp_path / "c") as judge:
            again = judge.grade(*numbered(6))
    assert (asked, len(stub.pairs)) == (5, 6)
    assert (again.cached, again.asked) == (5, 1)
    np.testing.assert_array_equal(again.grade_probs[:5], first.grade_probs)
    assert registry.get_sample_value("taoemb_judge_pairs_total", {"judge": url, "outcome": "cached"}) == 5
    assert registry.get_sample_value("taoemb_judge_pairs_total", {"judge": url, "outcome": "asked"}) == 1


def test_the_cache_key_holds_the_judge_the_prompt_and_the_pair(tmp_path: Path) -> None:
    stub = Stub()
    rubric = tmp_path / "r.md"
    rubric.write_text("---\nversion: x\n---\nOther words.")
    variants: list[dict] = [
        {},
        {"release": "d2"},
        {"rubric": str(rubric)},
        {"extra_body": {"seed": 1}},
        {"item_tokens": 16},
    ]
    with serving(stub) as url:
        for settings in variants:
            with client(url, cache=tmp_path / "c", **settings) as judge:
                assert judge.grade(["q"], items("title " * 30)).asked == 1


def test_no_more_requests_at_once_than_allowed() -> None:
    stub = Stub(delay_s=0.02)
    with serving(stub) as url, client(url, concurrency=3) as judge:
        judge.grade(*numbered(24))
    assert stub.most_running == 3


def test_failures_that_pass_are_retried() -> None:
    stub = Stub()
    answers = iter([PlainTextResponse("oops", 500), PlainTextResponse("bad gateway", 502)])
    stub.fault = lambda pairs: next(answers, None)
    registry = CollectorRegistry()
    with serving(stub) as url, client(url, registry) as judge:
        assert judge.grade(["q"], items("t")).unanswered == 0
    for code, count in (("500", 1), ("502", 1)):
        assert registry.get_sample_value("taoemb_judge_requests_total", {"judge": url, "result": code}) == count


def test_retry_after_is_honoured() -> None:
    stub = Stub()
    answers = iter([JSONResponse({}, 429, {"retry-after": "1"})])
    stub.fault = lambda pairs: next(answers, None)
    with serving(stub) as url, client(url) as judge:
        assert judge.grade(["q"], items("t")).seconds > 0.9


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_pair_whose_retries_ran_out_is_unanswered_and_the_others_are_not(batch_size: int) -> None:
    def fault(pairs: list[tuple[str, str]]) -> Response | None:
        return PlainTextResponse("oops", 500) if any(q == "query 3" for q, _ in pairs) else None

    stub = Stub(fault=fault, delay_s=0.01)
    registry = CollectorRegistry()
    with serving(stub) as url, client(url, registry, batch_size=batch_size, concurrency=2) as judge:
        judged = judge.grade(*numbered(12))
    assert judged.unanswered == 1
    assert np.flatnonzero(np.isnan(judged.relevance)).tolist() == [3]
    assert np.isnan(judged.grade_probs[3]).all()
    assert registry.get_sample_value("taoemb_judge_unanswered_total", {"judge": url, "reason": "retries"}) == 1


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


def test_a_lone_bad_pair_does_not_make_the_judge_look_dead() -> None:
    stub = Stub(fault=lambda pairs: PlainTextResponse("oops", 500))
    with serving(stub) as url, client(url, wait_s=60) as judge:
        judged = judge.grade(["q"], items("t"))
    assert judged.unanswered == 1
    assert judged.seconds < 5


def test_a_refused_pair_is_not_asked_again_and_found_in_its_batch() -> None:
    def fault(pairs: list[tuple[str, str]]) -> Response | None:
        return JSONResponse({"error": "too long"}, 400) if any("long" in q for q, _ in pairs) else None

    stub = Stub(fault=fault)
    with serving(stub) as url, client(url, batch_size=8) as judge:
        judged = judge.grade(["a", "b", "long", "c"], items(*"xxxx"))
    assert np.isnan(judged.relevance).tolist() == [False, False, True, False]
    assert sum(body["messages"][0] == body["messages"][-1] for body in stub.requests) <= 2  # log2, not one by one


def test_too_slow_an_answer_is_no_answer() -> None:
    stub = Stub(delay_s=0.5)
    with serving(stub) as url, client(url, timeout_s=0.05) as judge:
        assert judge.grade(["q"], items("t")).unanswered == 1


MALFORMED: list[Callable[[dict], object]] = [
    lambda answer: answer | {"choices": []},
    lambda answer: answer | {"choices": None},
    lambda answer: answer | {"choices": [4]},
    lambda answer: answer | {"choices": [{"index": 7} | choice(7, (0, 0, 0, 1))]},
    lambda answer: [],
    lambda answer: None,
    lambda answer: answer | {"choices": [answer["choices"][0] | {"logprobs": {"content": []}}]},
    lambda answer: (
        answer
        | {"choices": [{"index": 0, "logprobs": {"content": [{"top_logprobs": [{"token": "Yes", "logprob": 0}]}]}}]}
    ),
]


@pytest.mark.parametrize("change", MALFORMED)
def test_malformed_answers_are_nan_and_never_cached(change: Callable, tmp_path: Path) -> None:
    stub = Stub(change=change)
    registry = CollectorRegistry()
    with serving(stub) as url, client(url, registry, cache=tmp_path / "c") as judge:
        judged = judge.grade(["q", "q"], items("t", "t"))
        assert (judged.unanswered, judged.asked) == (2, 1)
        assert np.isnan(judged.relevance).all()
        stub.change = lambda answer: answer
        assert judge.grade(["q"], items("t")).unanswered == 0
    assert registry.get_sample_value("taoemb_judge_unanswered_total", {"judge": url, "reason": "malformed"}) == 1


def test_an_answer_that_is_not_json_is_no_answer() -> None:
    stub = Stub(fault=lambda pairs: PlainTextResponse("<html>", 200))
    with serving(stub) as url, client(url) as judge:
        assert judge.grade(["q"], items("t")).unanswered == 1


def test_a_batch_answer_with_a_hole_leaves_just_that_pair() -> None:
    stub = Stub(change=lambda answer: answer | {"choices": [c for c in answer["choices"] if c["index"] != 1]})
    with serving(stub) as url, client(url, batch_size=3) as judge:
        judged = judge.grade(*numbered(3))
    assert np.isnan(judged.relevance).tolist() == [False, True, False]


def test_a_judge_without_logprobs_is_said_once_and_clearly() -> None:
    stub = Stub(change=lambda a: a | {"choices": [c | {"logprobs": None} for c in a["choices"]]})
    with (
        serving(stub) as url,
        client(url) as judge,
        pytest.raises(JudgeUnavailable, match="gives no log-probabilities"),
    ):
        judge.grade(*numbered(3))


@pytest.mark.parametrize(("status", "words"), [(401, "api_key_file"), (403, "forbids"), (404, "judge.model")])
def test_no_access_ends_it_at_once(status: int, words: str) -> None:
    stub = Stub(fault=lambda pairs: PlainTextResponse("no such thing", status))
    with serving(stub) as url, client(url, wait_s=60) as judge:
        started = time.monotonic()
        with pytest.raises(JudgeUnavailable, match=rf"(?s){url}.*{words}") as failure:
            judge.grade(["q"], items("t"))
        assert time.monotonic() - started < 2
    assert "no such thing" in str(failure.value)
    assert len(stub.requests) == 1


@pytest.mark.parametrize("status", [404, 405])
def test_without_a_batch_route_pairs_go_one_by_one(status: int, caplog: pytest.LogCaptureFixture) -> None:
    stub = Stub(grade=by_title, batch_route=False)
    with serving(stub) as url, client(url, batch_size=4) as judge:
        judged = judge.grade(*numbered(9))
        again = judge.grade(*numbered(2))
    np.testing.assert_allclose(judged.relevance, np.arange(9) / 1000, atol=1e-6)
    assert again.unanswered == 0
    assert [r.getMessage() for r in caplog.records if "batch" in r.getMessage()] == [
        f"the judge at {url} has no …/chat/completions/batch: one pair a request"
    ]


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
            ([{"id": "llm", "root": "/mnt/models"}], "llm /mnt/models"),
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
            with serving(other, port), pytest.raises(TaoembError, match="changed from d1 to d2"):
                waiting.result(5)


class TestSettings:
    """Bad settings stop before anything is asked."""

    @pytest.mark.parametrize("url", [None, "", "judge:8080", "ftp://x/v1", "http://", "http://[::1"])
    def test_the_url(self, url: str | None) -> None:
        with pytest.raises(InputError, match=r"judge\.url"):
            JudgeClient(JudgeConfig(url=url))

    def test_the_key_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"judge\.api_key_file .*none"):
            client("http://x/v1", api_key_file=tmp_path / "none")
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(InputError, match="expected one line"):
            client("http://x/v1", api_key_file=tmp_path / "empty")

    def test_the_cache(self, tmp_path: Path) -> None:
        (tmp_path / "c").write_text("text, and not little of it" * 50)
        with pytest.raises(InputError, match=r"judge\.cache"):
            client("http://x/v1", cache=tmp_path / "c")

    def test_the_rubric(self) -> None:
        with pytest.raises(InputError, match="rubric"):
            client("http://x/v1", rubric="nope")


def test_closing_ends_what_is_under_way_and_leaves_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    before = threading.active_count()
    stub = Stub(delay_s=5)
    with serving(stub) as url:
        judge = client(url)
        waiting = judge.submit(*numbered(3))
        time.sleep(0.1)
        judge.close()
        judge.close()
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result(1)
        with pytest.raises(TaoembError, match="closed"):
            judge.submit(["q"], items("t"))
    deadline = time.monotonic() + 2
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_fault_in_a_call_does_not_leak_an_unread_error(caplog: pytest.LogCaptureFixture) -> None:
    stub = Stub(fault=lambda pairs: PlainTextResponse("no", 403))
    with serving(stub) as url, client(url) as judge, pytest.raises(JudgeUnavailable):
        judge.grade(*numbered(20))
    assert not [record for record in caplog.records if record.name == "asyncio"]
