"""The chart grants what controller, gateway and starters of jobs really ask the API server for, and nothing more."""

from taoemb.jobs.cleanup import clean_up
from taoemb.jobs.cluster import ClusterJob
from taoemb.jobs.manifest import RUN_LABEL
from taoemb.jobs.shard_job import shard_job
from taoemb.jobs.work import run_job
from taoemb.rollout.controller.lease import Lease
from taoemb.rollout.controller.resource import FINALIZER
from taoemb.serving.traffic_kserve import kserve_traffic
from tests.helm import rights
from tests.jobs.conftest import api, cluster, job, quick, reachable
from tests.jobs.fake_cluster import EVICTED, exited
from tests.rollout.controller_world import ROLLOUT, SETTINGS, ControllerWorld
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import NAME, NAMESPACE, FakeKServe

__all__ = ["api", "cluster", "reachable"]


def test_requests_are_told_apart():
    path = "/apis/taoemb.io/v1alpha1/namespaces/search/encoderrollouts"
    assert rights.needed("GET", path) == ("taoemb.io", "encoderrollouts", "list")
    assert rights.needed("GET", f"{path}/first") == ("taoemb.io", "encoderrollouts", "get")
    assert rights.needed("PATCH", f"{path}/first/status") == ("taoemb.io", "encoderrollouts/status", "patch")
    assert rights.needed("POST", "/api/v1/namespaces/search/events") == ("", "events", "create")
    assert rights.needed("GET", "/apis/taoemb.io/v1alpha1/encoderrollouts") == ("taoemb.io", "encoderrollouts", "list")


def test_a_whole_rollout_needs_the_controllers_rights():
    with FakeApi() as api, FakeKServe(api) as kserve:
        world = ControllerWorld(api, kserve)
        lease = Lease(api.client(), NAMESPACE, "first", SETTINGS)
        assert lease.attempt()
        assert lease.attempt()
        world.begin()
        world.run_until(world.ended)
        world.run_until(lambda: FINALIZER not in world.rollout()["metadata"].get("finalizers", []))
        world.script = lambda state: "continue"
        api.delete("encoderrollouts", NAMESPACE, ROLLOUT)
        lease.release()
        used = {rights.needed(method, path) for method, path in api.requests}
    assert used == rights.CONTROLLER


def test_the_gateway_reads_one_object():
    with FakeApi() as api, FakeKServe(api) as kserve:
        ControllerWorld(api, kserve)
        kserve_traffic(NAMESPACE, NAME, kserve.config, api.client())
        used = {rights.needed(method, path) for method, path in api.requests}
    assert used == rights.GATEWAY


def test_starting_following_and_deleting_jobs_needs_the_starters_rights(reachable, cluster):
    config = quick()
    cluster(EVICTED, exited(0, "trained"), EVICTED, exited(0), exited(0))
    shards = shard_job("publish", "shards", ["publish"], [1], 2, config.job, "jobs")
    for one in (job(reachable, config), ClusterJob(reachable.client(), shards, config.job)):
        run_job(one, "work", retries=1, say=lambda _: None, sleep=lambda _: None)
    (left,) = reachable.all("trainjobs")
    left["metadata"] = {"name": "left", "namespace": "jobs", "labels": {RUN_LABEL: "weekly-1"}}
    reachable.put("trainjobs", left)
    assert list(clean_up("", 7, config.job, "weekly-1")) == ["deleted TrainJob jobs/left"]
    used = {rights.needed(method, path) for method, path in reachable.requests}
    assert used == rights.JOBS
