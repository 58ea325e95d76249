"""The client against a judge that answers badly: errors, refusals, nonsense and holes."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse, PlainTextResponse, Response

from taoemb.judge.client import JudgeUnavailable
from tests.judge.clients import by_title, client, items, numbered
from tests.judge.stub import Stub, choice, serving


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


def test_a_fault_in_a_call_does_not_leak_an_unread_error(caplog: pytest.LogCaptureFixture) -> None:
    stub = Stub(fault=lambda pairs: PlainTextResponse("no", 403))
    with serving(stub) as url, client(url) as judge, pytest.raises(JudgeUnavailable):
        judge.grade(*numbered(20))
    assert not [record for record in caplog.records if record.name == "asyncio"]
