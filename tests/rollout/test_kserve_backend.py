"""The KServe backends against a real HTTP API server and encoders that answer as KServe's Services would."""

import copy

import pytest

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.kserve.backend import Collections, KServeBackend
from taoemb.rollout.kserve.standard import predictor_name
from taoemb.serving.kube import INFERENCE_SERVICES
from taoemb.serving.traffic import Arm, Traffic
from taoemb.serving.traffic_kserve import kserve_traffic
from tests.rollout.crd_rules import need_inference_services
from tests.rollout.fake_api import FakeApi, merged
from tests.rollout.fake_kserve import (
    CANDIDATE,
    CANDIDATE_URI,
    CONTROL,
    CONTROL_URI,
    NAME,
    NAMESPACE,
    FakeKServe,
    inference_service,
)

RELEASE = Candidate(CANDIDATE, CANDIDATE_URI)
MODES = pytest.mark.parametrize("mode", ["Standard", "Knative"])


class World:
    """An API server with one InferenceService, its encoders, and what the vector store was asked."""

    def __init__(self, api: FakeApi, kserve: FakeKServe, mode: str) -> None:
        self.api, self.kserve = api, kserve
        self.bound, self.activated = {CONTROL, CANDIDATE}, []
        self.written: list[dict] = []
        api.after_write.append(lambda body: self.written.append(body))
        api.put("inferenceservices", inference_service(mode))

    def backend(self, rollout: str = "search.first.1", percents=(1, 50)) -> KServeBackend:
        collections = Collections(self.check_bound, self.activated.append)
        return KServeBackend(
            self.api.client(),
            NAMESPACE,
            NAME,
            rollout,
            percents=percents,
            collections=collections,
            config=self.kserve.config,
        )

    def check_bound(self, release: str) -> None:
        if release not in self.bound:
            raise InputError(f"release {release[:8]} is not bound")

    def deployed(self, rollout: str = "search.first.1") -> KServeBackend:
        backend = self.backend(rollout)
        backend.deploy(RELEASE, rollout, "salt", "ab")
        return backend

    def object(self) -> dict:
        return self.api.get("inferenceservices", NAMESPACE, NAME)

    def traffic(self) -> Traffic:
        return kserve_traffic(NAMESPACE, NAME, self.kserve.config, self.api.client())

    def answers(self, arm: Arm) -> list[str | None]:
        return [self.kserve.release_behind(*url.split("/")[-2:]) for url in arm.urls]


@pytest.fixture
def api():
    with FakeApi() as running:
        yield running


@pytest.fixture
def world(api, mode):
    with FakeKServe(api) as kserve:
        yield World(api, kserve, mode)


@MODES
def test_a_rollout_ends_as_the_control_and_no_pod_of_it_restarts(world, mode):
    before = world.traffic()
    assert (before.control.release, before.candidate, before.rollout) == (CONTROL, None, "")
    backend = world.deployed()
    seen = backend.observe()
    assert (seen.control, seen.candidate, seen.percent) == (CONTROL, CANDIDATE, 0)
    for percent in (1, 50):
        backend.shift(percent)
        traffic = world.traffic()
        assert (traffic.percent, traffic.salt, traffic.rollout) == (percent, "salt", "search.first.1")
        assert (traffic.control.release, traffic.candidate.release) == (CONTROL, CANDIDATE)
        assert world.answers(traffic.control) == [CONTROL]
        assert world.answers(traffic.candidate) == [CANDIDATE]
    world.kserve.restarts.clear()
    backend.promote()
    seen = backend.observe()
    assert (seen.control, seen.candidate, seen.percent) == (CANDIDATE, None, 0)
    after = world.traffic()
    assert (after.control.release, after.candidate, after.percent) == (CANDIDATE, None, 0)
    assert world.answers(after.control) == [CANDIDATE]
    assert world.kserve.restarts == []
    assert world.activated == [CANDIDATE]
    if mode == "Knative":
        assert len(world.kserve.knative[NAMESPACE, f"{NAME}-predictor"].revisions) == 2


@MODES
def test_a_rollback_leaves_what_people_wrote(world, mode):
    before = world.object()
    backend = world.deployed()
    backend.shift(50)
    for _ in range(3):
        backend.rollback()
    assert world.traffic().control.release == CONTROL
    assert world.traffic().candidate is None
    seen = backend.observe()
    assert (seen.control, seen.candidate, seen.percent) == (CONTROL, None, 0)
    after = world.object()
    after["spec"]["predictor"].pop("annotations", None)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert world.kserve.restarts == []


@MODES
def test_every_object_written_is_one_that_kserve_takes(world, mode):
    """The fake API refuses everything else; this says that it really looks."""
    need_inference_services()
    backend = world.deployed()
    backend.shift(1)
    backend.promote()
    assert len([body for body in world.written if body["kind"] == "InferenceService"]) >= 4
    bad = copy.deepcopy(world.object())
    bad["spec"]["predictor"]["trafficPercent"] = 3
    with pytest.raises(TaoembError, match="trafficPercent"):
        world.api.client().replace(INFERENCE_SERVICES, NAMESPACE, NAME, bad)
    bad = copy.deepcopy(world.object())
    bad["spec"]["predictor"]["model"]["name"] = "kserve-container"
    with pytest.raises(TaoembError, match="not allowed in standard predictor"):
        world.api.client().replace(INFERENCE_SERVICES, NAMESPACE, NAME, bad)


@MODES
def test_every_call_may_be_repeated(world, mode):
    backend = world.deployed()
    for step in (
        lambda: world.backend().deploy(RELEASE, "search.first.1", "salt", "ab"),
        lambda: world.backend().shift(1),
        lambda: world.backend().promote(),
    ):
        step()
        version = world.object()["metadata"]["resourceVersion"]
        step()
        assert world.object()["metadata"]["resourceVersion"] == version
    backend.rollback()
    assert world.traffic().control.release == CANDIDATE, "a rollback after the promotion changes nothing"


@MODES
def test_no_traffic_before_the_digest_was_read_back(world, mode):
    world.kserve.ready.discard(CANDIDATE_URI)
    backend = world.deployed()
    seen = backend.observe()
    assert (seen.control, seen.candidate, seen.percent) == (CONTROL, None, 0)
    assert seen.message
    for move in (lambda: backend.shift(1), backend.promote):
        with pytest.raises(TaoembError):
            move()
    assert world.traffic().percent == 0
    assert CONTROL in world.answers(world.traffic().control)
    world.kserve.ready.add(CANDIDATE_URI)
    backend.shift(1)
    assert world.traffic().percent == 1


@MODES
def test_no_traffic_for_another_release_than_the_one_asked_for(world, mode):
    world.kserve.releases[CANDIDATE_URI] = "e" * 64
    backend = world.deployed()
    assert backend.observe().candidate == "e" * 64
    for move in (lambda: backend.shift(1), backend.promote):
        with pytest.raises(TaoembError, match="eeee"):
            move()
    assert world.traffic().percent == 0


@MODES
def test_no_traffic_for_a_release_without_a_collection(world, mode):
    world.bound.discard(CANDIDATE)
    with pytest.raises(InputError, match="not bound"):
        world.deployed()
    world.bound.add(CANDIDATE)
    backend = world.deployed()
    world.bound.discard(CANDIDATE)
    with pytest.raises(InputError, match="not bound"):
        backend.shift(1)
    assert world.traffic().percent == 0


@MODES
def test_a_write_that_meets_another_writer_is_made_again_from_what_that_one_left(world, mode):
    backend = world.deployed()
    left = [2]

    def other(method: str, path: str) -> None:
        if method == "PATCH" and left[0]:
            left[0] -= 1
            body = world.object()
            body["metadata"].setdefault("labels", {})[f"team-{left[0]}"] = "search"
            world.api.write("inferenceservices", NAMESPACE, NAME, body, status=False, merge=False)

    world.api.before.append(other)
    backend.shift(50)
    assert left == [0]
    assert world.traffic().percent == 50
    assert set(world.object()["metadata"]["labels"]) == {"team-0", "team-1"}


@MODES
def test_writers_without_end_are_an_error(world, mode):
    backend = world.deployed()
    world.api.fail("PATCH", "inferenceservices", code=409, times=100)
    with pytest.raises(TaoembError, match="others write it"):
        backend.shift(50)


@MODES
def test_one_rollout_at_a_time(world, mode):
    world.deployed()
    second = world.backend("search.second.2")
    with pytest.raises(InputError, match="one rollout at a time"):
        second.deploy(RELEASE, "search.second.2", "pepper", "ab")
    second.rollback()
    seen = second.observe()
    assert (seen.candidate, seen.percent) == (None, 0)
    assert "search.first.1 is under way" in seen.message
    assert world.traffic().rollout == "search.first.1", "it leaves the first one alone"


@MODES
def test_a_second_rollout_follows_the_first(world, mode):
    first = world.deployed()
    first.shift(50)
    first.promote()
    world.kserve.releases["s3://models/third"] = "a" * 64
    world.kserve.ready.add("s3://models/third")
    world.bound.add("a" * 64)
    world.kserve.restarts.clear()
    second = world.backend("search.second.2")
    second.deploy(Candidate("a" * 64, "s3://models/third"), "search.second.2", "pepper", "interleaving")
    traffic = world.traffic()
    assert (traffic.control.release, traffic.candidate.release) == (CANDIDATE, "a" * 64)
    assert (traffic.rollout, traffic.salt, traffic.design) == ("search.second.2", "pepper", "interleaving")
    second.shift(50)
    second.rollback()
    second.rollback()
    assert world.traffic().control.release == CANDIDATE
    assert world.kserve.restarts == []


@pytest.mark.parametrize("mode", ["Knative"])
def test_a_knative_rollback_keeps_the_control_reachable_throughout(world, mode):
    """The control comes back as a new revision; until it answers, the old one serves."""
    backend = world.deployed()
    backend.shift(50)
    world.kserve.ready.discard(CONTROL_URI)
    world.kserve.ready.add("gone")
    backend.rollback()
    seen = backend.observe()
    assert seen.control is None, "a rollback that is under way does not look finished"
    traffic = world.traffic()
    assert (traffic.candidate, traffic.percent) == (None, 0)
    assert traffic.control.urls[0].endswith("/prev-encoder-predictor")
    world.kserve.ready.add(CONTROL_URI)
    backend.rollback()
    assert backend.observe().control == CONTROL
    assert world.traffic().control.urls[0].endswith("/latest-encoder-predictor")


@pytest.mark.parametrize("mode", ["Standard"])
def test_a_storage_uri_changed_by_hand_voids_the_recorded_digest(world, mode):
    backend = world.deployed()
    backend.shift(50)
    backend.promote()
    patch = {"spec": {"predictor": {"model": {"storageUri": CONTROL_URI}}}}
    world.api.client().patch(INFERENCE_SERVICES, NAMESPACE, NAME, patch)
    assert world.traffic().control.release == CONTROL


@pytest.mark.parametrize(
    ("mode", "change", "message"),
    [
        ("Standard", {"spec": {"canary": [{"predictor": {"name": "hand"}, "trafficPercent": 1}]}}, "a canary already"),
        ("Standard", {"metadata": {"annotations": {"serving.kserve.io/deploymentMode": None}}}, "deploymentMode"),
        ("Standard", {"spec": {"predictor": {"model": {"storageUri": None}}}}, "storageUri is needed"),
        ("Knative", {"spec": {"predictor": {"canaryTrafficPercent": 10}}}, "split already"),
        ("Knative", {"metadata": {"annotations": {"serving.kserve.io/enable-tag-routing": None}}}, "tag-routing"),
    ],
)
def test_objects_that_rollouts_cannot_work_with(world, mode, change, message):
    key = ("inferenceservices", NAMESPACE, NAME)
    world.api.objects[key] = merged(world.api.objects[key], change)
    with pytest.raises(InputError, match=message) as error:
        world.deployed()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("mode", "percents", "message"),
    [("Standard", (0.5,), "whole percents"), ("Knative", (50, 100), "at most 99")],
)
def test_shares_that_kserve_cannot_give(world, mode, percents, message):
    with pytest.raises(InputError, match=message):
        world.backend(percents=percents).deploy(RELEASE, "search.first.1", "salt", "ab")


@MODES
def test_an_api_server_that_fails_is_one_line(world, mode):
    world.api.fail("GET", "inferenceservices", code=500)
    with pytest.raises(TaoembError, match="500: injected failure"):
        world.backend().observe()
    world.api.fail("GET", "inferenceservices", code=403)
    with pytest.raises(TaoembError, match="rights"):
        world.backend().observe()


def test_predictors_are_named_after_releases():
    assert predictor_name("0123456789abcdef") == "r0123456789"
