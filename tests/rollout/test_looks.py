"""Looks with a judge over real HTTP: slow, away, changed, not allowed; each page is judged once and in order."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.responses import JSONResponse

from taoemb.config import Config, JudgeConfig
from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.measurement import measured
from taoemb.rollout.measurement.grading import Grader
from taoemb.rollout.measurement.looking import Looker, needs_judge
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.plan import Guardrail, Plan, Step
from taoemb.rollout.state import RolloutState, begin, moved
from taoemb.serving.events.store import EventStore
from tests.judge.stub import Stub, choice, serving
from tests.rollout.rollout_rows import CANDIDATE, CONTROL, ROLLOUT, SALT, START, make_rows, open_store, write

PLAN = Plan(
    steps=(Step(percent=10.0), Step(percent=50.0)), depth=3, guardrails=(Guardrail(metric="error_rate", margin=0.1),)
)
NOW = START + 10_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    with open_store(tmp_path) as opened:
        write(opened, make_rows(seed=8, count=150))
        yield opened


@pytest.fixture
def stub() -> Iterator[Stub]:
    judge = Stub()
    with serving(judge):
        yield judge


def settings(stub: Stub, **changes: object) -> JudgeConfig:
    return JudgeConfig.model_validate({"url": stub.url, "batch_size": 32, **changes})


def standing() -> RolloutState:
    state = begin(ROLLOUT, Candidate(CANDIDATE, "/a"), SALT, START, CONTROL)
    return moved(state, "Stepping", "", START, 1)


def waiting(store: EventStore, plan: Plan = PLAN) -> list[str]:
    seen = Observations(ROLLOUT, SALT, plan)
    seen.read(store, NOW)
    return [one.request_id for one in seen.waiting()]


def test_each_page_is_judged_once_whoever_looks(store: EventStore, stub: Stub) -> None:
    config = Config(heldout_judge=settings(stub))
    decisions, asked = [], []
    for _ in range(2):  # the second one is another process
        with Looker(store, config, PLAN, []) as looker:
            for _ in range(2):
                looker(standing(), NOW)
                decisions.append(looker.last)
                asked.append(len(stub.pairs))
    assert 15 <= asked[0] == asked[-1], "whatever was graded is never asked again"
    first, *others = [measured.to_json(measurement) for measurement, _ in decisions]
    assert all(one == first for one in others)
    assert first["graded"] > 30
    kept = store.rollouts.decisions(ROLLOUT)
    assert [one.measurement for one in kept] == [first] * 4
    assert {one.verdict["outcome"] for one in kept} == {"continue"}


def test_a_slow_judge_is_not_waited_for_and_not_asked_twice(store: EventStore, stub: Stub) -> None:
    ids = waiting(store)
    stub.delay_s = 0.5
    done = 0
    with Grader(settings(stub, concurrency=1), PLAN, [], patience_s=0.2) as grader:
        for _ in range(100):
            left = waiting(store)
            assert left == ids[done:], "in order of arrival"
            if not left:
                break
            done += grader.grade(store, left, None).pages
    assert done == len(ids)
    assert len(stub.pairs) == len(set(stub.pairs)), "equal pairs are asked once, whatever was under way"


def test_a_look_goes_on_without_a_judge_and_catches_up(store: EventStore, stub: Stub) -> None:
    named = stub.models
    stub.models = lambda: JSONResponse({"error": "starting"}, 503)
    plan = PLAN.model_copy(update={"look_every_s": 0.3})
    with Looker(store, Config(heldout_judge=settings(stub)), plan, []) as looker:
        looker(standing(), NOW)
        assert looker.note
        measurement, verdict = looker.last
        assert (measurement.graded, verdict.outcome) == (sum_empty(store), "continue")
        assert measurement.waiting == len(waiting(store)) > 0
        assert measurement.find("latency_ms").n_control > 0
        stub.models = named
        looker(standing(), NOW)
        for _ in range(50):
            if not waiting(store):
                break
            looker(standing(), NOW)
        assert looker.last[0].waiting == 0


def sum_empty(store: EventStore) -> int:
    """Sampled pages without items, which need no judge: none of them counts before the pages ahead of it are graded."""
    seen = Observations(ROLLOUT, SALT, PLAN)
    seen.read(store, NOW)
    return int(seen.flag("sampled")[: seen.graded_until()].sum())


def test_what_the_judge_does_not_say_stays_open(store: EventStore, stub: Stub) -> None:
    nothing = choice(0, (0, 0, 0, 1.0)) | {"logprobs": {"content": [{"token": "?", "logprob": 0, "top_logprobs": []}]}}

    def silent_on_one(answer: dict) -> dict:
        answer["choices"][0] = nothing | {"index": 0}
        return answer

    stub.change = silent_on_one
    with Looker(store, Config(heldout_judge=settings(stub)), PLAN, []) as looker:
        looker(standing(), NOW)
        found = looker.last[0]
    assert found.unanswered > 0
    assert any(None in one.relevance for one in store.grades(ROLLOUT))
    assert waiting(store) == [], "they are not asked again"


def test_the_judge_that_gave_reward_may_not_grade(store: EventStore, stub: Stub) -> None:
    looker = Looker(store, Config(heldout_judge=settings(stub)), PLAN, ["d0", "d1"])
    with looker, pytest.raises(InputError, match="gave the reward"):
        looker(standing(), NOW)
    assert store.grades(ROLLOUT) == []


def test_another_judge_in_the_middle_is_refused(store: EventStore, stub: Stub) -> None:
    with Grader(settings(stub), PLAN, [], patience_s=30) as grader:
        grader.grade(store, waiting(store)[:10], None)
        with pytest.raises(InputError, match="graded earlier pages"):
            grader.grade(store, waiting(store), "another")


def test_a_plan_says_whether_it_needs_a_judge(store: EventStore) -> None:
    clicks = Plan(metric="click_rate", guardrails=(Guardrail(metric="error_rate", margin=0.1),))
    assert needs_judge(Plan())
    assert not needs_judge(clicks)
    with Looker(store, Config(), clicks, []) as looker:
        looker(standing(), NOW)
        assert looker.last[0].find("click_rate").n_control > 0
    with pytest.raises(InputError, match=r"heldout_judge\.url"):
        Looker(store, Config(), Plan(), [])


def test_the_budget_of_a_look_is_kept(store: EventStore, stub: Stub) -> None:
    plan = PLAN.model_copy(update={"pages_a_look": 7})
    with Looker(store, Config(heldout_judge=settings(stub)), plan, []) as looker:
        for look in (1, 2):
            looker(standing(), NOW)
            assert len(store.grades(ROLLOUT)) == 7 * look


def unlabelled(answer: dict) -> dict:
    """A model that thinks first."""
    entries = [{"token": "<think>", "logprob": -1e-7}, {"token": "4", "logprob": -19.0}]
    content = [entries[0] | {"top_logprobs": entries}]
    return answer | {"choices": [one | {"logprobs": {"content": content}} for one in answer["choices"]]}


def silent_on_most(answer: dict) -> dict:
    return (
        answer if len(answer["choices"]) < 2 else answer | {"choices": answer["choices"][: len(answer["choices"]) // 3]}
    )


@pytest.mark.parametrize(
    ("change", "says"), [(unlabelled, "none of the pairs, of"), (silent_on_most, r"only \d of \d+ pairs")]
)
def test_awkward_judge_is_tried_with_a_few_pages(store: EventStore, stub: Stub, change: Callable, says: str) -> None:
    stub.change = change
    everything = len(waiting(store))
    with Grader(settings(stub), PLAN, [], patience_s=30) as grader:
        told = grader.grade(store, waiting(store), None)
        assert told.pages == 0
        assert 0 < len(stub.pairs) <= 12
        assert re.search(says, told.message), told.message
        assert len(waiting(store)) == everything, "no page is given up for a judge that is set up wrongly"
        stub.change = lambda answer: answer
        assert grader.grade(store, waiting(store), None).pages == everything


def test_awkward_pages_that_no_judge_takes_do_not_hold_up_the_others(store: EventStore, stub: Stub) -> None:
    ids = waiting(store)
    seen = store.pages(ids[:4])
    bad = {seen[one].query for one in ids[:4]}
    stub.fault = lambda pairs: JSONResponse({"error": "filtered"}, 400) if bad & {q for q, _ in pairs} else None
    with Grader(settings(stub), PLAN, [], patience_s=30) as grader:
        looks = 0
        while waiting(store):
            grader.grade(store, waiting(store), None)
            looks += 1
            assert looks < 6
