"""The same rollout on a live API server: real schemas, CEL rules, versions, status and leases. `make test-cluster`.

Encoders are the fake ones, which follow the InferenceService as it stands in the cluster; where KServe itself runs, its
webhook takes or refuses what the backend writes.
"""

import contextlib
import threading
import time
import uuid
from types import SimpleNamespace

import pytest
import yaml

from taoemb.config import load_config
from taoemb.errors import InputError, TaoembError
from taoemb.rollout.controller.reconcile import Tools
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS
from taoemb.rollout.controller.run import run_controller
from taoemb.rollout.kserve.backend import Collections, KServeBackend
from taoemb.rollout.kserve.cluster import Place, follow, start_rollout
from taoemb.rollout.verdict import Reason, Verdict
from taoemb.serving.kube import INFERENCE_SERVICES, Conflict, Kind, Missing, Objects
from taoemb.serving.traffic_kserve import kserve_traffic
from tests.rollout import crd_rules
from tests.rollout.controller_world import PLAN, RELEASE, SETTINGS
from tests.rollout.fake_kserve import CANDIDATE, NAME, FakeKServe, inference_service
from tests.rollout.live_api import NAMESPACES, live_api

pytestmark = pytest.mark.cluster
DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions")


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    with live_api(tmp_path_factory.mktemp("api")) as running:
        for file in (crd_rules.OWN, crd_rules.KSERVE):
            define(running, file)
        yield running


@pytest.fixture
def namespace(objects):
    name = f"taoemb-test-{uuid.uuid4().hex[:8]}"
    objects.create(NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    objects.delete(NAMESPACES, "", name)


def define(objects: Objects, file) -> None:
    """Install a CRD unless one of that name is there, and wait until it is served."""
    if not file.is_file():
        pytest.skip(f"{file.name} is missing: get it from {crd_rules.KSERVE_SOURCE}")
    body = yaml.load(file.read_text(encoding="utf-8"), crd_rules._Loader)
    with contextlib.suppress(Conflict):
        objects.create(DEFINITIONS, "", body)
    spec = body["spec"]
    kind = Kind(spec["group"], spec["versions"][0]["name"], spec["names"]["plural"])
    wait_for(lambda: served(objects, kind))


def served(objects: Objects, kind: Kind) -> bool:
    try:
        objects.list(kind, "default")
    except Missing:
        return False
    return True


def wait_for(done, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@contextlib.contextmanager
def encoders(objects: Objects, namespace: str):
    """The fake encoders, which read the InferenceService again and again."""
    stop = threading.Event()
    with FakeKServe(SimpleNamespace(after_write=[], objects={})) as kserve:

        def look() -> None:
            while not stop.wait(0.05):
                with contextlib.suppress(TaoembError):
                    kserve.follow(objects.get(INFERENCE_SERVICES, namespace, NAME))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield kserve
        finally:
            stop.set()
            thread.join(30)


def tools(objects: Objects, kserve: FakeKServe) -> Tools:
    def backend(resource, plan):
        return KServeBackend(
            objects,
            resource.namespace,
            resource.inference_service,
            resource.rollout,
            percents=[step.percent for step in plan.steps],
            collections=Collections(lambda release: None, lambda release: None),
            config=kserve.config,
        )

    def look(state, now):
        outcome = "promote" if state.step else "continue"
        return Verdict(outcome, [Reason("item_goodrate", outcome, outcome)], next_step=outcome == "continue")

    return Tools(objects, backend, lambda resource, plan: look, lambda plan, state, now: None)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_a_rollout_on_a_live_api_server(objects, namespace, mode):
    body = inference_service(mode)
    body["metadata"]["namespace"] = namespace
    objects.create(INFERENCE_SERVICES, namespace, body)
    settings = SETTINGS.model_copy(update={"lease_namespace": namespace, "poll_s": 0.2})
    config = load_config(None, []).model_copy(update={"controller": settings})
    stop = threading.Event()
    with encoders(objects, namespace) as kserve:
        controller = threading.Thread(
            target=run_controller,
            args=(config, namespace),
            kwargs={"objects": objects, "tools": tools(objects, kserve), "stop": stop},
        )
        controller.start()
        try:
            place = start_rollout(objects, Place(namespace, NAME), RELEASE, PLAN)
            status = follow(objects, place, say=print, warn=print, poll_s=0.2)
        finally:
            stop.set()
            controller.join(60)
        assert status["phase"] == "Promoted", status
        traffic = kserve_traffic(namespace, NAME, kserve.config, objects)
        assert (traffic.control.release, traffic.candidate) == (CANDIDATE, None)


def test_the_api_server_keeps_the_rules(objects, namespace):
    place = start_rollout(objects, Place(namespace, NAME), RELEASE, PLAN)
    assert start_rollout(objects, Place(namespace, NAME), RELEASE, PLAN) == place
    for spec, message in (
        ({"plan": {"alpha": 0.4}}, "plan is part"),
        ({"candidate": {"storageUri": "s3://other"}}, "candidate is part"),
        ({"request": {"action": "pause", "reason": "later"}}, "pause"),
    ):
        with pytest.raises(InputError, match=message):
            objects.patch(ENCODER_ROLLOUTS, namespace, place.name, {"spec": spec})
    body = objects.get(ENCODER_ROLLOUTS, namespace, place.name)
    spec = {**body["spec"], "plan": {"steps": [{"percent": 5}, {"percent": 5}]}}
    with pytest.raises(InputError, match="percent must grow"):
        objects.create(ENCODER_ROLLOUTS, namespace, {**body, "metadata": {"name": "second"}, "spec": spec})
