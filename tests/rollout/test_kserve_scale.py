"""Pods of both arms by KServe's own arithmetic: the control keeps its floor, and no share or promotion lacks pods."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.rollout.backend import Candidate
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS, new_resource
from taoemb.rollout.kserve.scale import Bounds, pods_for
from taoemb.rollout.plan import Plan, Step
from taoemb.serving.inference_service import SIDE
from tests.rollout.controller_world import PLAN, ControllerWorld
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import NAME, NAMESPACE, FakeKServe

CONTROL, CANDIDATE = f"{NAME}-predictor", f"{NAME}-rdddddddddd-predictor"


@pytest.fixture
def world():
    with FakeApi() as api, FakeKServe(api) as kserve:
        yield ControllerWorld(api, kserve)


def bounds(world) -> tuple[int | None, int | None]:
    stable = world.service()["spec"]["predictor"]
    return stable.get("minReplicas"), stable.get("maxReplicas")


@pytest.mark.parametrize("canaries_wait", [False, True])
def test_a_dark_candidate_takes_no_pod_from_the_control(world, canaries_wait):
    world.kserve.canaries_wait = canaries_wait
    world.script = lambda state: "continue"
    world.begin()
    world.run_until(lambda: world.status().get("phase") == "Stepping")
    dark = [pods for pods in world.kserve.pods if CANDIDATE in pods]
    assert dark[0][CANDIDATE] == 1
    assert min(pods[CONTROL] for pods in world.kserve.pods) == 2


def test_at_promotion_the_candidate_has_the_pods_that_the_control_had_grown_to(world):
    world.kserve.load = 6
    world.begin()
    world.run_until(world.ended)
    assert world.status()["phase"] == "Promoted"
    both = [pods for pods in world.kserve.pods if len(pods) == 2]
    assert both[-1][CANDIDATE] == 6, "before it is promoted"
    assert world.kserve.pods[-1] == {CANDIDATE: 6}
    assert bounds(world) == (2, 6)
    assert world.kserve.restarts == []


@pytest.mark.parametrize("outcome", ["promote", "rollback"])
def test_what_people_wrote_comes_back(world, outcome):
    key = ("inferenceservices", NAMESPACE, NAME)
    del world.api.objects[key]["spec"]["predictor"]["minReplicas"]
    world.script = lambda state: outcome if state.step else "continue"
    world.begin()
    world.run_until(world.ended)
    assert bounds(world) == (None, 6)


def test_a_candidate_grows_with_the_control_within_a_step(world):
    world.kserve.load = 2
    world.script = lambda state: "continue"
    world.begin()
    controller = world.controller()
    world.run_until(lambda: world.status().get("percent") == 50, controller)
    assert world.kserve.pods[-1] == {CONTROL: 2, CANDIDATE: 2}
    world.kserve.load = 9
    world.kserve.settle(world.service())
    world.run_until(lambda: world.kserve.pods[-1] == {CONTROL: 5, CANDIDATE: 5}, controller)


def test_no_share_before_the_pods_for_it_are_ready(world):
    world.kserve.load, world.kserve.room = 6, 7
    world.script = lambda state: "continue"
    world.begin(plan=Plan(steps=[Step(percent=p) for p in (10, 50)], look_every_s=0.001))
    controller = world.controller()
    world.run_until(lambda: "1 of the 4 pods" in world.status().get("message", ""), controller)
    assert set(world.seen_percents) == {0, 10}
    world.kserve.room = 12
    world.kserve.settle(world.service())
    world.run_until(lambda: world.status().get("percent") == 50, controller)


def test_a_cluster_without_room_ends_the_rollout_in_time_and_words(world):
    world.kserve.load, world.kserve.room = 6, 7
    steps = [Step(percent=10), Step(percent=50)]
    world.begin(plan=Plan(steps=steps, look_every_s=0.001, ready_timeout_s=0.3))
    world.run_until(world.ended)
    assert world.status()["phase"] == "RolledBack"
    assert (
        "too little capacity for 0.3 s: 1 of the 4 pods that the candidate needs are ready" in world.status()["message"]
    )
    assert bounds(world) == (2, 6)


def test_a_promotion_waits_for_its_pods_too(world):
    world.kserve.load, world.kserve.room = 6, 8
    world.begin(plan=Plan(steps=[Step(percent=20)], look_every_s=0.001))
    world.script = lambda state: "promote"
    controller = world.controller()
    world.run_until(lambda: world.status().get("phase") == "Promoting", controller)
    world.run_until(lambda: "3 of the 6 pods that the candidate needs" in world.status()["message"], controller)
    assert CONTROL in world.kserve.pods[-1]
    world.kserve.room = 12
    world.kserve.settle(world.service())
    world.run_until(world.ended, controller)
    assert world.kserve.pods[-1] == {CANDIDATE: 6}


def test_a_rollout_that_an_older_version_began_ends_as_it_began(world):
    """Without a note of what people wrote, nobody's bounds are touched."""
    world.script = lambda state: "continue"
    world.begin()
    controller = world.controller()
    world.run_until(lambda: world.status().get("percent") == 1, controller)
    service = world.api.objects["inferenceservices", NAMESPACE, NAME]
    service["spec"]["predictor"]["minReplicas"] = 2
    service["spec"]["canary"][0]["predictor"]["annotations"].pop("taoemb.io/scale")
    world.api.client().patch(
        ENCODER_ROLLOUTS, NAMESPACE, "first", {"spec": {"request": {"action": "rollback", "reason": "enough"}}}
    )
    world.run_until(world.ended, controller)
    assert bounds(world) == (2, 6)


def test_the_arms_are_never_on_the_same_side(world):
    """Each arm's disruption budget selects by this label; pods of two budgets can't be evicted at all."""
    sides = []

    def note(body):
        if body.get("kind") == "InferenceService":
            stable = body["spec"]["predictor"].get("labels", {}).get(SIDE, "a")
            sides.extend((stable, one["predictor"]["labels"][SIDE]) for one in body["spec"].get("canary", []))

    world.api.after_write.append(note)
    world.begin()
    world.run_until(world.ended)
    world.kserve.releases["s3://models/third"] = "a" * 64
    world.kserve.ready.add("s3://models/third")
    body = new_resource(NAMESPACE, "second", NAME, Candidate("a" * 64, "s3://models/third"), PLAN)
    world.api.put("encoderrollouts", body)
    world.run_until(lambda: world.ended("second"))
    assert set(sides) == {("a", "b"), ("b", "a")}
    assert world.kserve.restarts == []


@settings(max_examples=5, deadline=None)
@given(
    lowest=st.integers(1, 4),
    more=st.integers(0, 6),
    load=st.integers(0, 12),
    percents=st.lists(st.integers(1, 90), min_size=1, max_size=3, unique=True).map(sorted),
)
def test_no_arm_ever_has_fewer_pods_than_its_traffic_needs(lowest, more, load, percents):
    with FakeApi() as api, FakeKServe(api) as kserve:
        world = ControllerWorld(api, kserve)
        stable = api.objects["inferenceservices", NAMESPACE, NAME]["spec"]["predictor"]
        stable["minReplicas"], stable["maxReplicas"] = lowest, lowest + more
        kserve.load = min(load, lowest + more)
        kserve.settle(world.service())
        last = len(percents) - 1
        world.script = lambda state: "promote" if state.step == last else "continue"
        world.begin(plan=Plan(steps=[Step(percent=p) for p in percents], look_every_s=0.001))
        kserve.pods.clear()
        shares = world.seen_percents
        shares.clear()
        world.run_until(world.ended)
        assert world.status()["phase"] == "Promoted"
        for pods, share in zip(kserve.pods, shares, strict=True):
            assert pods.get(CONTROL, lowest) >= lowest, "the control's floor"
            if CONTROL in pods and CANDIDATE in pods:
                assert pods[CONTROL] >= math.ceil(kserve.load * (1 - share / 100))
                assert pods[CANDIDATE] >= math.ceil(kserve.load * share / 100)
        assert sum(kserve.pods[-1].values()) >= kserve.load
        assert bounds(world) == (lowest, lowest + more)


@given(st.integers(1, 99), st.integers(0, 99), st.integers(1, 40), st.integers(1, 40))
def test_the_candidate_has_at_least_the_controls_pods_for_its_share(percent, now, control, present):
    wanted = pods_for(percent, now, control=control, present=present, both=False, bounds=Bounds(1, 10_000))
    assert wanted >= control * percent / (100 - now) - 1e-6
    assert pods_for(percent, now, control=control, present=1, both=True, bounds=Bounds(1, 10_000)) <= control


def test_it_does_not_follow_each_wobble_of_the_autoscaler():
    def wanted(control, present):
        return pods_for(50, 50, control=control, present=present, both=False, bounds=Bounds(1, 20))

    assert [wanted(6, 3), wanted(5, 6), wanted(4, 6), wanted(3, 6)] == [6, 6, 6, 3]
