"""The controller against a real HTTP API server: every end of a rollout, restarts, neighbours, deletion, requests."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taoemb.errors import TaoembError
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS, FINALIZER
from taoemb.rollout.plan import Plan, Step
from taoemb.serving.traffic_kserve import kserve_traffic
from tests.rollout.controller_world import PLAN, ROLLOUT, ControllerWorld
from tests.rollout.fake_api import FakeApi, Refusal
from tests.rollout.fake_kserve import CANDIDATE, CANDIDATE_URI, CONTROL, NAME, NAMESPACE, FakeKServe

CR = ("encoderrollouts", NAMESPACE, ROLLOUT)


@pytest.fixture
def world(request):
    with FakeApi() as api, FakeKServe(api) as kserve:
        yield ControllerWorld(api, kserve, getattr(request, "param", "Standard"))


def served(world) -> tuple[str, str | None, float]:
    traffic = kserve_traffic(NAMESPACE, NAME, world.kserve.config, world.api.client())
    return traffic.control.release, traffic.candidate and traffic.candidate.release, traffic.percent


@pytest.mark.parametrize("world", ["Standard", "Knative"], indirect=True)
def test_a_better_candidate_becomes_the_control(world):
    world.begin()
    world.run_until(world.ended)
    status = world.status()
    assert (status["phase"], status["step"], status["percent"], status["outcome"]) == (
        "Promoted",
        "2/2",
        100,
        "promote",
    )
    assert status["control"] == CONTROL
    assert status["reasons"] == [
        {"check": "item_goodrate", "pointsTo": "promote", "text": "the gain says promote"},
    ]
    assert served(world) == (CANDIDATE, None, 0)
    assert [world.condition(kind) for kind in ("Progressing", "Promoted", "Degraded")] == ["False", "True", "False"]
    assert world.kserve.restarts == []
    world.run_until(lambda: FINALIZER not in world.rollout()["metadata"].get("finalizers", []))


def test_the_steps_are_taken_one_after_the_other(world):
    world.begin(plan=Plan(steps=[Step(percent=p) for p in (1, 5, 25)], look_every_s=0.001))
    world.script = lambda state: "promote" if state.step == 2 else "continue"
    world.run_until(world.ended)
    changes = [
        value
        for value, before in zip(world.seen_percents, [None, *world.seen_percents], strict=False)
        if value != before
    ]
    assert changes == [0, 1, 5, 25, 0]


def test_a_worse_candidate_goes_and_the_control_stays(world):
    world.script = lambda state: "rollback" if state.step else "continue"
    world.begin()
    world.run_until(world.ended)
    assert (world.status()["phase"], world.status()["outcome"], world.status()["percent"]) == (
        "RolledBack",
        "rollback",
        0,
    )
    assert served(world) == (CONTROL, None, 0)
    assert "canary" not in world.service()["spec"]
    assert world.condition("Promoted") == "False"
    kinds = {event["reason"]: event["type"] for event in world.events()}
    assert kinds["RolledBack"] == "Warning"
    assert kinds["Stepping"] == "Normal"


def test_a_candidate_that_never_answers_gets_nothing(world):
    world.kserve.ready.discard(CANDIDATE_URI)
    world.begin(plan=PLAN.model_copy(update={"ready_timeout_s": 0.3}))
    world.run_until(world.ended)
    assert world.status()["phase"] == "RolledBack"
    assert "not ready" in world.status()["message"]
    assert set(world.seen_percents) == {0}
    assert served(world) == (CONTROL, None, 0)


def test_each_move_is_one_event_even_when_told_again(world):
    world.begin()
    world.run_until(world.ended)
    told = world.events()
    assert [event["reason"] for event in told] == [
        "Pending",
        "Deploying",
        "Stepping",
        "Stepping",
        "Promoting",
        "Promoted",
    ]
    assert all(event["involvedObject"]["uid"] == world.rollout()["metadata"]["uid"] for event in told)
    for _ in range(3):
        controller = world.controller()
        controller.sweep()
        controller.settle(30)
    assert len(world.events()) == len(told)


def test_the_state_is_kept_where_reports_read_it(world):
    world.begin()
    world.run_until(world.ended)
    assert world.recorded[-1].phase == "Promoted"
    assert world.recorded[-1].name == world.status()["rollout"]
    assert world.recorded[-1].name.startswith(f"{NAMESPACE}.{ROLLOUT}.")


def test_an_ended_rollout_is_left_alone(world):
    world.begin()
    world.run_until(world.ended)
    world.run_until(lambda: FINALIZER not in world.rollout()["metadata"].get("finalizers", []))
    world.api.requests.clear()
    controller = world.controller()
    controller.sweep()
    controller.settle(30)
    assert {method for method, _ in world.api.requests} == {"GET"}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    deaths=st.lists(st.integers(1, 25), max_size=4),
    outcome=st.sampled_from(["promote", "rollback"]),
    lost=st.booleans(),
)
def test_a_controller_that_dies_anywhere_is_replaced_without_harm(deaths, outcome, lost):
    """`lost`: the last request before it dies is done, and its answer gets lost."""
    with FakeApi() as api, FakeKServe(api) as kserve:
        world = ControllerWorld(api, kserve)
        world.script = lambda state: outcome if state.step else "continue"
        world.begin()
        for life in deaths:
            die_after(world, life, lost)
            controller = world.controller()
            for _ in range(40):
                controller.sweep()
                controller.settle(30)
            api.before.clear()
            api.after.clear()
        world.run_until(lambda: world.ended() and not world.rollout()["metadata"].get("finalizers"))
        assert world.status()["phase"] == {"promote": "Promoted", "rollback": "RolledBack"}[outcome]
        assert served(world) == ((CANDIDATE if outcome == "promote" else CONTROL), None, 0)
        assert kserve.restarts == []
        reasons = [event["reason"] for event in world.events()]
        assert len(reasons) == len(world.status()["state"]["changes"]), "each move was told once"


def die_after(world, requests: int, lost: bool) -> None:
    """After that many requests nothing reaches the API server any more; `lost`: of the last one only the answer."""
    left = [requests]
    gone = Refusal(503, "Gone", "the controller's connection is gone")

    def before(method: str, path: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise gone

    def after(method: str, path: str) -> None:
        if lost and left[0] == 0:
            raise gone

    world.api.before.append(before)
    world.api.after.append(after)


def test_a_failing_rollout_is_its_own_affair(world):
    world.begin("broken", service="no-such-service")
    world.begin()
    controller = world.controller()
    world.run_until(world.ended, controller)
    assert world.status()["phase"] == "Promoted"
    assert world.condition("Degraded", "broken") == "True"
    assert "404" in world.status("broken")["message"]
    assert world.status("broken")["phase"] == "Pending"


def test_failures_are_tried_again_and_forgotten(world):
    world.begin()
    controller = world.controller()
    world.api.fail("PATCH", "inferenceservices", code=500, times=3)
    world.run_until(lambda: world.condition("Degraded") == "True", controller)
    world.run_until(world.ended, controller)
    assert world.status()["phase"] == "Promoted"
    assert world.condition("Degraded") == "False"
    status, body = world.health.answer("/metrics")
    assert status == 200
    assert b'taoemb_rollout_controller_ticks_total{result="failed"}' in body


def shown(world) -> str:
    return world.health.answer("/metrics")[1].decode()


def test_looks_that_fail_are_seen_in_status_and_metrics_until_one_works(world):
    broken = True

    def script(state):
        if broken and state.shifted:
            raise TaoembError("the events database is away")
        return "promote" if state.step else "continue"

    world.script = script
    world.begin()
    controller = world.controller()
    world.run_until(lambda: world.condition("Degraded") == "True", controller)
    (degraded,) = [one for one in world.status()["conditions"] if one["type"] == "Degraded"]
    assert degraded["reason"] == "LookFailed"
    assert degraded["message"] == "this look failed: the events database is away"
    gauge = f'taoemb_rollout_degraded{{rollout="first",rollout_namespace="{NAMESPACE}"}}'
    world.run_until(lambda: f"{gauge} 1.0" in shown(world), controller)
    broken = False
    world.run_until(world.ended, controller)
    assert world.condition("Degraded") == "False"
    world.run_until(lambda: f"{gauge} 0.0" in shown(world), controller)


def test_a_state_of_a_newer_version_goes_on(world):
    world.begin()
    controller = world.controller()
    world.run_until(lambda: world.status().get("phase") == "Stepping", controller)
    world.api.client().patch(
        ENCODER_ROLLOUTS, NAMESPACE, ROLLOUT, {"status": {"state": {"of_a_newer_version": 7}}}, "status"
    )
    world.run_until(world.ended, controller)
    assert world.status()["phase"] == "Promoted"


def test_the_second_rollout_of_a_service_fails_and_leaves_the_first(world):
    world.script = lambda state: "continue"
    world.begin()
    world.run_until(lambda: world.status().get("percent") == 50)
    world.begin("second")
    world.run_until(lambda: world.ended("second"))
    assert world.status("second")["phase"] == "Failed"
    assert "one rollout at a time" in world.status("second")["message"]
    assert served(world) == (CONTROL, CANDIDATE, 50)


@pytest.mark.parametrize("world", ["Standard", "Knative"], indirect=True)
def test_deleting_a_running_rollout_rolls_back_first(world):
    world.script = lambda state: "continue"
    world.begin()
    world.run_until(lambda: world.status().get("percent") == 50)
    assert FINALIZER in world.rollout()["metadata"]["finalizers"]
    world.api.delete(*CR)
    assert world.api.objects[CR]["metadata"]["deletionTimestamp"]
    world.run_until(lambda: CR not in world.api.objects)
    assert served(world) == (CONTROL, None, 0)
    assert (world.recorded[-1].phase, world.recorded[-1].reason) == ("RolledBack", "the EncoderRollout was deleted")


def test_deleting_an_ended_rollout_needs_nobody(world):
    world.begin()
    world.run_until(lambda: world.ended() and FINALIZER not in world.rollout()["metadata"].get("finalizers", []))
    world.api.delete(*CR)
    assert CR not in world.api.objects
    assert served(world) == (CANDIDATE, None, 0)


def test_deleting_both_a_rollout_and_its_service(world):
    world.script = lambda state: "continue"
    world.begin()
    world.run_until(lambda: world.status().get("percent") == 50)
    world.api.delete("inferenceservices", NAMESPACE, NAME)
    world.api.delete(*CR)
    world.run_until(lambda: CR not in world.api.objects)


def test_a_held_inconclusive_rollout_waits_for_a_person(world):
    world.script = lambda state: "inconclusive" if state.step else "continue"
    world.begin(plan=PLAN.model_copy(update={"on_inconclusive": "hold"}))
    world.run_until(world.ended)
    assert (world.status()["phase"], world.status()["percent"]) == ("Inconclusive", 50)
    assert served(world) == (CONTROL, CANDIDATE, 50)
    ask(world, "promote", "the numbers of the shop are better")
    world.run_until(lambda: world.status()["phase"] == "Promoted")
    assert served(world) == (CANDIDATE, None, 0)
    assert world.status()["obeyed"] == {"action": "promote", "reason": "the numbers of the shop are better"}


def test_a_request_is_obeyed_once(world):
    world.script = lambda state: "continue"
    world.begin()
    world.run_until(lambda: world.status().get("percent") == 50)
    ask(world, "rollback", "complaints")
    world.run_until(world.ended)
    assert (world.status()["phase"], world.status()["outcome"]) == ("RolledBack", "rollback")
    assert "complaints" in world.status()["message"]
    ask(world, "promote", "too late")
    world.run_until(lambda: world.status()["obeyed"]["reason"] == "too late")
    assert world.status()["phase"] == "RolledBack"
    assert served(world) == (CONTROL, None, 0)


def ask(world, action: str, reason: str) -> None:
    body = world.rollout()
    body["spec"]["request"] = {"action": action, "reason": reason}
    world.api.write(*CR, body, status=False, merge=False)


def test_a_plan_that_only_the_library_refuses_fails_before_anything_is_touched(world):
    world.api.lenient = True
    world.begin()
    world.api.objects[CR]["spec"]["plan"]["steps"] = []
    before = world.service()
    world.run_until(world.ended)
    assert world.status()["phase"] == "Failed"
    assert "steps" in world.status()["message"]
    assert world.service() == before


def test_nothing_happens_without_the_lead(world):
    world.begin()
    controller = world.controller(leading=lambda: False)
    for _ in range(3):
        controller.sweep()
        controller.settle(30)
    assert world.api.requests == []
    assert world.status() == {}
