"""A paused rollout goes nowhere but back, wherever it was when it was paused, and goes on where it stood."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.engine import begin, tick, with_request
from taoemb.rollout.pausing import held_back, is_paused, pause, resume
from taoemb.rollout.plan import Plan, Step
from taoemb.rollout.state import moved
from taoemb.rollout.verdict import Reason, Verdict
from tests.rollout.controller_world import ControllerWorld
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import NAMESPACE, FakeKServe
from tests.rollout.fake_world import CANDIDATE, FakeBackend, World

PLAN = Plan(steps=(Step(percent=5), Step(percent=25), Step(percent=50)), look_every_s=10, step_timeout_s=1000)
FORWARD = ["Pending", "Deploying", "Stepping", "Promoting", "Promoted"]


def passing(state, now):
    last = state.step + 1 == len(PLAN.steps)
    return Verdict("promote" if last else "continue", [Reason("gain", "promote", "better")], next_step=not last)


def harmful(state, now):
    return Verdict("rollback", [Reason("error_rate", "rollback", "3 points worse")])


def run(state, backend, look, ticks, now=1000.0):
    for _ in range(ticks):
        now += 10
        state = held_back(state, tick(state, PLAN, backend, look, now))
    return state, now


def place(state) -> tuple[int, int]:
    return FORWARD.index(state.phase), state.step


@settings(deadline=None)
@given(before=st.integers(0, 14), during=st.integers(1, 300))
def test_a_pause_anywhere_holds_and_its_end_goes_on_to_the_same_end(before, during):
    world = World()
    backend = FakeBackend(world)
    state, now = run(begin("r", Candidate(CANDIDATE, "/a"), "salt", 1000.0), backend, passing, before)
    if state.phase in ("Promoting", "Promoted"):
        with pytest.raises(InputError, match="can be paused"):
            pause(state, "", now)
        return
    state = pause(state, "a sale begins", now)
    held, later = run(state, backend, passing, during, now)
    assert place(held) == place(state), "also past every time-out"
    assert world.percent in (0, 5, 25, 50)[: state.step + 2]
    assert is_paused(held)
    state = resume(held, "it is over", later)
    assert later - state.since <= max(now - held.since, 0) + 1e-6, "the pause counts towards no limit"
    state, _ = run(state, backend, passing, 20, later)
    assert state.phase == "Promoted"
    said = [change.reason for change in state.changes]
    assert ("paused: a sale begins" in said, "resumed: it is over" in said) == (True, True)


def test_what_harms_goes_back_in_a_pause_too():
    backend = FakeBackend(World())
    state, now = run(begin("r", Candidate(CANDIDATE, "/a"), "salt", 1000.0), backend, passing, 8)
    assert state.phase == "Stepping"
    state, _ = run(pause(state, "", now), backend, harmful, 4, now)
    assert state.phase == "RolledBack"
    assert "3 points worse" in state.reason


@pytest.mark.parametrize(("action", "phase"), [("rollback", "RolledBack"), ("promote", "Promoted")])
def test_what_a_person_asks_for_goes_through_a_pause(action, phase):
    backend = FakeBackend(World())
    state, now = run(begin("r", Candidate(CANDIDATE, "/a"), "salt", 1000.0), backend, passing, 8)
    state = with_request(pause(state, "", now), action, "we know", now)
    state, _ = run(state, backend, passing, 6, now)
    assert state.phase == phase
    assert not is_paused(state)


def test_a_pause_asked_for_twice_is_one():
    state = pause(begin("r", Candidate(CANDIDATE, "/a"), "salt", 0.0), "first", 1.0)
    assert pause(state, "again", 2.0) == state
    assert resume(resume(state, "", 3.0), "", 4.0) == resume(state, "", 3.0)
    ended = replace(moved(state, "RolledBack", "worse", 5.0), paused_at=None)
    with pytest.raises(InputError, match="RolledBack"):
        pause(ended, "", 6.0)


@pytest.fixture
def world():
    with FakeApi() as api, FakeKServe(api) as kserve:
        yield ControllerWorld(api, kserve)


def say(world, **spec) -> None:
    body = world.rollout()
    body["spec"] |= spec
    world.api.write("encoderrollouts", NAMESPACE, "first", body, status=False, merge=False)


def test_spec_paused_holds_the_resource_and_its_condition_says_so(world):
    world.begin()
    say(world, paused=True, pauseReason="not before Monday")
    controller = world.controller()
    world.run_until(lambda: world.condition("Paused") == "True", controller)
    for _ in range(20):
        controller.sweep()
        controller.settle(30)
    assert world.status()["phase"] == "Pending"
    assert "canary" not in world.service()["spec"]
    (paused,) = [one for one in world.status()["conditions"] if one["type"] == "Paused"]
    assert paused["message"] == "not before Monday"
    assert "paused: not before Monday" in [event["message"] for event in world.events()]
    say(world, paused=False)
    world.run_until(world.ended, controller)
    assert (world.status()["phase"], world.condition("Paused")) == ("Promoted", "False")


def test_a_plan_that_only_the_library_refuses_is_an_invalid_spec(world):
    world.api.lenient = True
    world.begin()
    world.api.objects["encoderrollouts", NAMESPACE, "first"]["spec"]["plan"]["steps"] = []
    world.run_until(world.ended)
    assert world.condition("InvalidSpec") == "True"
    (told,) = [one for one in world.status()["conditions"] if one["type"] == "InvalidSpec"]
    assert "steps" in told["message"]
    world.api.lenient = False
    world.begin("second")
    world.run_until(lambda: world.ended("second"))
    assert world.condition("InvalidSpec", "second") == "False"


def test_columns_for_people(world):
    """What `kubectl get` shows: units of the last look, and why, short enough for a line."""
    world.script = lambda state: "continue"
    world.units = 1234
    world.begin()
    world.run_until(lambda: world.status().get("units") == 1234)
    assert "the gain says continue" in world.status()["reason"]
    say(world, request={"action": "rollback", "reason": "much too slow " * 20})
    world.run_until(world.ended)
    assert len(world.status()["reason"]) == 80
    assert world.status()["reason"].endswith("…")
