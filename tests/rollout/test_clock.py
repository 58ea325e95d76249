"""A rollout ages by the database's time, whatever a machine's clock says."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from taoemb.errors import TaoembError
from taoemb.rollout import clock as module
from taoemb.rollout.clock import ASK_S, Clock
from taoemb.rollout.controller.run import Controller
from tests.rollout.controller_world import PLAN, SETTINGS, ControllerWorld
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import CANDIDATE_URI, FakeKServe


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the monotonic clock says."""
    seconds = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


def test_the_database_s_time_goes_on_while_this_machine_s_clock_is_set(passed, monkeypatch) -> None:
    monkeypatch.setattr(module.time, "time", lambda: 5_000_000.0)
    asked = []
    clock = Clock(lambda: asked.append(1) or 100.0)
    assert clock.now() == 5_000_000  # nobody was asked
    clock.refresh()
    assert clock.now() == 100
    monkeypatch.setattr(module.time, "time", lambda: 0.0)
    passed[0] += 7
    clock.refresh()
    assert (clock.now(), len(asked)) == (107, 1)
    passed[0] += ASK_S
    clock.refresh()
    assert (clock.now(), len(asked)) == (100, 2)


def test_who_does_not_answer_is_asked_later(passed) -> None:
    answers = [100.0, None, 500.0]

    def ask() -> float:
        answer = answers.pop(0)
        if answer is None:
            raise TaoembError("away")
        return answer

    clock = Clock(ask)
    clock.refresh()
    passed[0] += ASK_S
    clock.refresh()
    assert clock.now() == 100 + ASK_S
    clock.refresh()
    assert len(answers) == 1
    passed[0] += ASK_S
    clock.refresh()
    assert clock.now() == 500


def test_without_a_database_it_is_the_machine_s() -> None:
    clock = Clock()
    clock.refresh()
    assert clock.now() == pytest.approx(time.time(), abs=1)


def test_a_controller_whose_own_clock_is_fast_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is half an hour ahead of the one that began: by its clock, the candidate's time to answer is over."""
    true_time = time.time

    def sweep(world: ControllerWorld, ask: Callable[[], float]) -> str:
        tools = replace(world.tools(), clock=Clock(ask))
        controller = Controller(tools, SETTINGS, leading=lambda: True, health=world.health)
        for _ in range(3):
            controller.sweep()
            controller.settle(30)
        return world.status()["phase"]

    with FakeApi() as api, FakeKServe(api) as kserve:
        world = ControllerWorld(api, kserve, "Standard")
        kserve.ready.discard(CANDIDATE_URI)
        world.begin(plan=PLAN.model_copy(update={"ready_timeout_s": 600}))
        assert sweep(world, true_time) == "Deploying"
        monkeypatch.setattr(module.time, "time", lambda: true_time() + 1800)
        assert sweep(world, true_time) == "Deploying"
        assert sweep(world, lambda: true_time() + 1800) in ("RollingBack", "RolledBack")  # by such a clock it would end
