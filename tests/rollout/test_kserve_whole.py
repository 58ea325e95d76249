"""The real gateway and the real controller around one InferenceService, under load: every move, and no search lost.

Only the API server and KServe are stand-ins; both processes' parts run in this one, because a Milvus Lite file has room
for one.
"""

import threading
import time
from collections import Counter

import httpx
import pytest
import uvicorn
from kubernetes.config import kube_config

from taoemb.config import EventsConfig, GatewayConfig, load_config
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.publish import publish
from taoemb.rollout.backend import Candidate
from taoemb.rollout.controller.run import run_controller
from taoemb.rollout.kserve.cluster import Place, ask, follow, start_rollout
from taoemb.rollout.plan import Plan, Step
from taoemb.serving import traffic_kserve
from taoemb.serving.events.store import EventStore
from taoemb.serving.gateway.process import GatewayApp
from tests.retrieval.conftest import config, releases  # noqa: F401  (fixtures)
from tests.retrieval.tiny_shop import shop, write_items
from tests.rollout.controller_world import SETTINGS
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import CANDIDATE_URI, CONTROL_URI, NAME, NAMESPACE, FakeKServe, inference_service

PLAN = Plan(
    steps=(Step(percent=20, min_units=30), Step(percent=50, min_units=60)),
    metric="error_rate",
    goal="non-inferiority",
    margin=0.4,
    guardrails=(),
    look_every_s=0.2,
)
PLACE = Place(NAMESPACE, NAME)


class Load:
    """Searches by ever new users, each reply checked."""

    def __init__(self, url: str, collections: dict[str, str]) -> None:
        self.url, self._collections = url, collections
        self.wrong: list[str] = []
        self.served: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(2)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, number: int) -> None:
        headers = {"x-taoemb-tester": "sesame"}
        with httpx.Client(base_url=self.url, timeout=30, headers=headers) as client:
            count = 0
            while not self._stop.is_set():
                count += 1
                try:
                    answer = client.get("/search", params={"query": "red sofa", "user": f"u{number}-{count}"})
                except httpx.HTTPError as error:
                    self.wrong.append(repr(error))
                    continue
                page = answer.json()
                if answer.status_code != 200:
                    self.wrong.append(answer.text)
                elif self._collections[page["release"]] != page["collection"]:
                    self.wrong.append(f"{page['release']} searched {page['collection']}")
                else:
                    self.served[page["release"]] += 1


@pytest.fixture
def published(releases, config, tmp_path):  # noqa: F811
    """Milvus settings, and the digest → collection of the control and of a candidate with items of its own."""
    data = write_items(tmp_path / "shop", shop(60))
    bound = {}
    for release, active in ((releases.base, True), (releases.other, False)):
        bound[release.manifest.digest] = publish(release, data, config, activate=active).collection
    return config, bound


@pytest.fixture
def cluster(published, releases, tmp_path, monkeypatch):  # noqa: F811
    """The API server, KServe, and the settings that lead to them."""
    milvus, _ = published
    with FakeApi() as api, FakeKServe(api) as kserve:
        kserve.releases = {CONTROL_URI: releases.base.manifest.digest, CANDIDATE_URI: releases.other.manifest.digest}
        kserve.vector = tuple([1.0] + [0.0] * 31)
        (tmp_path / "kubeconfig").write_text(api.kubeconfig())
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
        traffic_kserve._connected.cache_clear()
        api.put("inferenceservices", inference_service())
        (tmp_path / "tester-token").write_text("sesame")
        settings = {
            "milvus": milvus,
            "kserve": kserve.config,
            "controller": SETTINGS.model_copy(update={"poll_s": 0.05}),
            "events": EventsConfig(url=f"sqlite:///{tmp_path / 'events.db'}", spool=tmp_path / "spool", flush_s=0.05),
            "gateway": GatewayConfig(
                traffic=f"kserve://{NAMESPACE}/{NAME}",
                poll_s=0.05,
                patience_s=20,
                tester_token_file=tmp_path / "tester-token",
            ),
        }
        yield api, kserve, load_config(None, []).model_copy(update=settings)
        traffic_kserve._connected.cache_clear()


@pytest.fixture
def gateway_url(cluster):
    _, _, settings = cluster
    app = GatewayApp(settings.gateway, settings.milvus, settings.events, kserve=settings.kserve)
    made = traffic_app(app)
    server = uvicorn.Server(uvicorn.Config(made, port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


def traffic_app(app: GatewayApp):
    """The application as a worker makes it, without the watch over its supervisor."""
    from taoemb.serving.gateway.app import create_app
    from taoemb.serving.gateway.page_ids import PageIds, key_file

    return create_app(
        app.gateway,
        lambda: app.open_store(app.milvus),
        lambda: app.open_rows(app.events),
        PageIds(key_file(None, app.events.spool), app.gateway.event_age_s),
        kserve=app.kserve,
    )


@pytest.fixture
def controlled(cluster):
    api, _, settings = cluster
    stop = threading.Event()
    thread = threading.Thread(target=run_controller, args=(settings,), kwargs={"objects": api.client(), "stop": stop})
    thread.start()
    yield
    stop.set()
    thread.join(60)


def wait_for(done, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_promotion_under_load_loses_no_search(cluster, published, gateway_url, controlled):
    api, kserve, settings = cluster
    milvus, bound = published
    control, candidate = bound
    with Load(gateway_url, bound) as load:
        wait_for(lambda: load.served[control] > 10)
        assert not load.served[candidate]
        place = start_rollout(api.client(), PLACE, Candidate(candidate, CANDIDATE_URI), PLAN)
        status = follow(api.client(), place, say=print, warn=print, poll_s=0.05)
        assert status["phase"] == "Promoted", status
        served = load.served[candidate]
        wait_for(lambda: load.served[candidate] > served + 50)
    assert load.wrong == []
    assert kserve.restarts == []
    with MilvusStore(milvus) as store:
        assert store.registry.active(milvus.alias).digest == candidate
    with EventStore(settings.events) as store:
        assert store.rollouts.last_decision(status["rollout"]).verdict["outcome"] == "promote"
        assert store.rollouts.read(status["rollout"]).state["phase"] == "Promoted"


@pytest.mark.slow
def test_an_encoder_that_dies_and_a_rollback_under_load_lose_no_search(cluster, published, gateway_url, controlled):
    api, kserve, _ = cluster
    _, bound = published
    control, candidate = bound
    with Load(gateway_url, bound) as load:
        place = start_rollout(
            api.client(), PLACE, Candidate(candidate, CANDIDATE_URI), PLAN.model_copy(update={"margin": 0.0})
        )
        wait_for(lambda: load.served[candidate] > 10)
        kserve.ready.discard(CANDIDATE_URI)
        served = load.served[control]
        wait_for(lambda: load.served[control] > served + 30)
        ask(api.client(), place, "rollback", "its encoders are down")
        status = follow(api.client(), place, say=print, warn=print, poll_s=0.05)
        assert status["phase"] == "RolledBack"
        served = load.served[control]
        wait_for(lambda: load.served[control] > served + 20)
    assert load.wrong == []
