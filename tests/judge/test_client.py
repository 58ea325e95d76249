"""What the client asks, remembers and refuses, and how it ends."""

import concurrent.futures
import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from taoemb.config import JudgeConfig
from taoemb.errors import InputError, TaoembError
from taoemb.judge.client import JudgeClient
from tests.judge.clients import by_title, client, items, numbered
from tests.judge.stub import Stub, serving


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
