"""Starting, following and deciding an EncoderRollout from outside; and the pipeline's step that does it."""

import json
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from kfp import dsl
from kubernetes.config import kube_config

from components.rollout.component import rollout as component
from taoemb.encoder.release import load_release
from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.kserve.cluster import Place, ask, follow, parse_place, rollout_name, start_rollout
from taoemb.serving.kube import Missing
from tests.retrieval.conftest import make_releases
from tests.rollout.controller_world import PLAN, RELEASE, ControllerWorld
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import CANDIDATE, CANDIDATE_URI, NAME, NAMESPACE, FakeKServe

SERVICE = Place(NAMESPACE, NAME)


@pytest.fixture
def world():
    with FakeApi() as api, FakeKServe(api) as kserve:
        yield ControllerWorld(api, kserve)


@pytest.fixture
def controlled(world):
    """The world with a controller at work."""
    stop = threading.Event()
    work = threading.Thread(target=world.controller().run, args=(stop,))
    work.start()
    yield world
    stop.set()
    work.join(30)


def test_a_rollout_is_followed_to_its_end(controlled):
    objects, said = controlled.api.client(), []
    place = start_rollout(objects, SERVICE, RELEASE, PLAN)
    assert str(place) == f"{NAMESPACE}/{NAME}-dddddddddd"
    controlled.api.fail("GET", "encoderrollouts/", code=500)
    status = follow(objects, place, say=said.append, warn=said.append, poll_s=0.01)
    assert status["phase"] == "Promoted"
    assert said[-1].startswith("Promoted, step 2/2, 100 %: the gain says promote")
    assert all(line != after for line, after in pairwise(said)), "each change is told once"


def test_starting_again_finds_the_same_one(world):
    objects = world.api.client()
    first = start_rollout(objects, SERVICE, RELEASE, PLAN)
    assert start_rollout(objects, SERVICE, RELEASE, PLAN) == first
    assert len(world.api.all("encoderrollouts")) == 1
    with pytest.raises(InputError, match="another plan"):
        start_rollout(objects, SERVICE, RELEASE, PLAN.model_copy(update={"alpha": 0.01}))
    with pytest.raises(InputError, match="another candidate"):
        start_rollout(objects, SERVICE, Candidate(CANDIDATE, "s3://elsewhere"), PLAN)


def test_what_the_api_server_refuses_is_bad_input(world):
    with pytest.raises(InputError, match="storageUri"):
        start_rollout(world.api.client(), SERVICE, Candidate(CANDIDATE, ""), PLAN)


def test_a_person_decides(controlled):
    controlled.script = lambda state: "continue"
    objects = controlled.api.client()
    place = start_rollout(objects, SERVICE, RELEASE, PLAN)
    ask(objects, place, "rollback", "complaints")
    status = follow(objects, place, say=lambda line: None, warn=lambda line: None, poll_s=0.01)
    assert status["phase"] == "RolledBack"
    assert "complaints" in status["message"]
    with pytest.raises(InputError, match="has ended"):
        ask(objects, place, "promote", "")


def test_a_held_rollout_is_followed_to_what_a_person_decided(controlled):
    controlled.script = lambda state: "inconclusive" if state.step else "continue"
    objects = controlled.api.client()
    place = start_rollout(objects, SERVICE, RELEASE, PLAN.model_copy(update={"on_inconclusive": "hold"}))
    status = follow(objects, place, say=lambda line: None, warn=lambda line: None, poll_s=0.01)
    assert (status["phase"], status["percent"]) == ("Inconclusive", 50)
    ask(objects, place, "promote", "good enough")
    status = follow(objects, place, say=lambda line: None, warn=lambda line: None, poll_s=0.01)
    assert status["phase"] == "Promoted"


def test_a_deleted_rollout_is_not_waited_for(world):
    with pytest.raises(Missing):
        follow(world.api.client(), Place(NAMESPACE, "gone"), say=print, warn=print, poll_s=0.01)


@pytest.mark.parametrize("text", ["encoder", "search/", "/encoder", "a/b/c", "kserve://"])
def test_malformed_places(text):
    with pytest.raises(InputError, match="expected NAMESPACE/NAME"):
        parse_place(text, "--kserve")


def test_names_follow_from_the_release():
    assert rollout_name("encoder", CANDIDATE) == "encoder-dddddddddd"


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return make_releases(tmp_path_factory.mktemp("releases")).base.path


@pytest.mark.parametrize("outcome", ["promote", "rollback"])
def test_the_pipelines_step_goes_on_with_the_rollout_of_its_release(
    controlled, release, outcome, tmp_path, monkeypatch
):
    """As after the restart of its pod: the object is there and may have ended meanwhile."""
    config = tmp_path / "kubeconfig"
    config.write_text(controlled.api.kubeconfig())
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(config))
    digest = load_release(release).manifest.digest
    controlled.kserve.releases[CANDIDATE_URI] = digest
    controlled.script = lambda state: outcome if state.step else "continue"
    objects = controlled.api.client()
    place = start_rollout(objects, SERVICE, Candidate(digest, CANDIDATE_URI), PLAN)
    follow(objects, place, say=lambda line: None, warn=lambda line: None, poll_s=0.01)
    verdict = dsl.Metrics(name="verdict", uri=str(tmp_path / "verdict"), metadata={})

    def run() -> None:
        component.python_func(
            settings="",
            plan="{steps: [{percent: 1}, {percent: 50}], look_every_s: 0.001}",
            target=f"kserve://{NAMESPACE}/{NAME}",
            storage=CANDIDATE_URI,
            control="",
            folder=str(release),
            verdict=verdict,
        )

    if outcome == "promote":
        run()
    else:
        with pytest.raises(TaoembError, match="ended as RolledBack: the gain says rollback"):
            run()
    assert verdict.metadata["promoted"] == float(outcome == "promote")
    assert json.loads(Path(verdict.path).read_text())["rollout"] == str(place)
    assert len(controlled.api.all("encoderrollouts")) == 1


@pytest.mark.parametrize(
    ("target", "storage", "control", "message"),
    [
        ("", "", "", "rollout_target is needed"),
        ("kserve://encoder", "s3://a", "", "expected NAMESPACE/NAME"),
        ("kserve://search/encoder", "", "", "storageUri"),
        ("folder", "", "", "baseline is needed"),
    ],
)
def test_what_the_step_cannot_do_without(release, target, storage, control, message, tmp_path):
    verdict = dsl.Metrics(name="verdict", uri=str(tmp_path / "verdict"), metadata={})
    with pytest.raises(InputError, match=message):
        component.python_func("", "{}", target, storage, control, str(release), verdict)
