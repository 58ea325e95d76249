"""A place, a look or a version that fails takes nothing from a person's rollback, from time-outs and from the truth."""

import threading
import time

import pytest

from taoemb.errors import TaoembError
from taoemb.rollout.controller.abort import Aborter
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS
from taoemb.rollout.plan import Plan, Step
from tests.rollout.controller_world import ROLLOUT, ControllerWorld
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import CANDIDATE, CANDIDATE_URI, CONTROL, NAME, NAMESPACE, FakeKServe
from tests.rollout.test_controller import CR, ask, served, shown

ISVC = ("inferenceservices", NAMESPACE, NAME)


@pytest.fixture
def world(request):
    with FakeApi() as api, FakeKServe(api) as kserve:
        yield ControllerWorld(api, kserve, getattr(request, "param", "Standard"))


@pytest.fixture
def aborter(world):
    """The abort worker as the controller runs it, beside whatever a test's controller is doing."""
    stop = threading.Event()
    thread = threading.Thread(target=Aborter(world.tools(), 0.05, leading=lambda: True).run, args=(stop,))
    thread.start()
    yield thread
    stop.set()
    thread.join(60)


def condition(world, kind: str) -> dict:
    return next(one for one in world.status()["conditions"] if one["type"] == kind)


def wait_for(true, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def edit(world, change) -> None:
    body = world.service()
    change(body["spec"])
    world.api.write(*ISVC, body, status=False, merge=False)


@pytest.mark.parametrize("world", ["Standard", "Knative"], indirect=True)
def test_a_rollback_does_not_wait_for_the_look_under_way(world, aborter):
    looking, go_on = threading.Event(), threading.Event()

    def script(state):
        if state.step == 1:
            looking.set()
            assert go_on.wait(60)
        return "promote" if state.step else "continue"

    world.script = script
    world.begin()
    controller = world.controller()
    wait_for(lambda: controller.sweep() or looking.is_set(), 60)
    ask(world, "rollback", "complaints")
    wait_for(lambda: served(world)[2] == 0, 60)
    assert world.status()["phase"] == "RollingBack"
    go_on.set()  # the look would promote; its candidate is gone
    world.run_until(world.ended, controller)
    assert (world.status()["phase"], served(world)) == ("RolledBack", (CONTROL, None, 0))
    assert "complaints" in world.status()["message"]


def test_a_rollback_does_not_wait_for_a_rollout_that_rests_after_failures(world, aborter):
    world.script = lambda state: "continue"
    world.begin()
    controller = world.controller()
    world.run_until(lambda: world.status().get("percent") == 50, controller)

    def broken(state):
        raise RuntimeError("a bug")

    world.script = broken
    world.run_until(lambda: controller._resting, controller)
    ask(world, "rollback", "complaints")
    wait_for(lambda: served(world) == (CONTROL, None, 0), 60)
    world.run_until(world.ended, controller)
    assert world.status()["phase"] == "RolledBack"


def test_a_deletion_does_not_wait_for_the_look_under_way(world, aborter):
    looking, go_on = threading.Event(), threading.Event()

    def script(state):
        looking.set()
        assert go_on.wait(60)
        return "continue"

    world.script = script
    world.begin()
    controller = world.controller()
    wait_for(lambda: controller.sweep() or looking.is_set(), 60)
    world.api.delete(*CR)
    wait_for(lambda: served(world) == (CONTROL, None, 0), 60)
    go_on.set()
    world.run_until(lambda: CR not in world.api.objects, controller)
    assert world.recorded[-1].phase == "RolledBack"


def test_a_state_that_this_version_can_not_read_is_told_and_a_rollback_still_obeyed(world, aborter):
    """As after the chart was rolled back to a version that does not know a phase."""
    world.script = lambda state: "continue"
    world.begin()
    controller = world.controller()
    world.run_until(lambda: world.status().get("percent") == 50, controller)
    assert world.status()["state"]["version"] == 1
    newer = {"status": {"state": {"phase": "Shadowing", "version": 2}}}
    world.api.client().patch(ENCODER_ROLLOUTS, NAMESPACE, ROLLOUT, newer, "status")
    world.run_until(lambda: condition(world, "Degraded")["reason"] == "StateUnreadable", controller)
    assert "'Shadowing' of version 2" in condition(world, "Degraded")["message"]
    assert served(world) == (CONTROL, CANDIDATE, 50), "left as it is"
    ask(world, "rollback", "complaints")
    world.run_until(world.ended, controller)
    assert (world.status()["phase"], served(world)) == ("RolledBack", (CONTROL, None, 0))


def test_a_plan_that_this_version_refuses_in_the_middle_goes_back(world):
    world.script = lambda state: "continue"
    world.begin()
    controller = world.controller()
    world.run_until(lambda: world.status().get("percent") == 50, controller)
    world.api.lenient = True
    world.api.objects[CR]["spec"]["plan"]["ofANewerVersion"] = 1
    world.run_until(world.ended, controller)
    assert (world.status()["phase"], served(world)) == ("Failed", (CONTROL, None, 0))
    assert "of_a_newer_version" in world.status()["message"]


@pytest.mark.parametrize("world", ["Standard", "Knative"], indirect=True)
def test_deleting_a_rollout_whose_promotion_is_through_records_what_serves(world):
    """The controller dies after it promoted and before it says so."""
    world.begin()
    controller = world.controller()

    def lose_the_answer(body):
        if body.get("kind") == "InferenceService" and world.status().get("phase") == "Promoting":
            world.api.fail("PATCH", "encoderrollouts", times=10_000)

    world.api.after_write.append(lose_the_answer)
    for _ in range(200):
        controller.sweep()
        controller.settle(30)
        if served(world) == (CANDIDATE, None, 0):
            break
    world.api.after_write.remove(lose_the_answer)
    world.api.before.clear()
    assert world.status()["phase"] == "Promoting"
    world.api.delete(*CR)
    world.run_until(lambda: CR not in world.api.objects)
    assert served(world) == (CANDIDATE, None, 0)
    assert world.recorded[-1].phase == "Promoted"
    assert "deleted" in world.recorded[-1].reason


def test_looks_that_fail_are_failed_ticks(world):
    def script(state):
        raise TaoembError("the events database is away")

    world.script = script
    world.begin()
    world.run_until(lambda: 'ticks_total{result="failed"}' in shown(world) and world.condition("Degraded") == "True")
    failed = [line for line in shown(world).splitlines() if line.startswith("taoemb_rollout_controller_ticks_total")]
    assert any('result="failed"' in line and not line.endswith(" 0.0") for line in failed), failed


def test_a_share_that_a_person_sets_is_set_back_and_told(world):
    world.script = lambda state: "continue"
    world.begin()
    controller = world.controller()
    world.run_until(lambda: world.status().get("percent") == 50 and world.status()["state"]["shifted"], controller)
    edit(world, lambda spec: spec["canary"][0].update(trafficPercent=80))
    world.run_until(lambda: served(world)[2] == 50, controller)
    world.run_until(lambda: any("somebody else had set the share to 80 %" in one["message"] for one in world.events()))
    assert world.status()["phase"] == "Stepping"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec.pop("canary"), "somebody else took the candidate out of InferenceService search/encoder"),
        (
            lambda spec: spec["predictor"]["model"].update(storageUri=CANDIDATE_URI + "-hotfix"),
            "somebody else changed the control in the middle",
        ),
    ],
)
def test_an_edit_that_ends_the_comparison_ends_the_rollout_at_once_and_in_words(world, change, said):
    world.script = lambda state: "continue"
    world.kserve.releases[CANDIDATE_URI + "-hotfix"] = CONTROL  # its pods still answer as before
    world.kserve.ready.add(CANDIDATE_URI + "-hotfix")
    world.begin(plan=Plan(steps=(Step(percent=50),), look_every_s=0.001, ready_timeout_s=3600))
    world.run_until(lambda: world.status().get("percent") == 50 and world.status()["state"]["shifted"])
    edit(world, change)
    world.run_until(world.ended, timeout_s=20)
    assert world.status()["phase"] == "Failed"
    assert said in world.status()["message"]
    assert served(world)[1:] == (None, 0)
