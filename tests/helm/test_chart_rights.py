"""The chart grants what the controller and the gateway really ask the API server for, and nothing more."""

from taoemb.rollout.controller.lease import Lease
from taoemb.rollout.controller.resource import FINALIZER
from taoemb.serving.traffic_kserve import kserve_traffic
from tests.helm import rights
from tests.rollout.controller_world import ROLLOUT, SETTINGS, ControllerWorld
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import NAME, NAMESPACE, FakeKServe


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
