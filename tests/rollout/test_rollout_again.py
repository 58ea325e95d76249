"""Retry, undo, list and pause of a cluster's rollouts, from outside, through the API server."""

import json
import threading

import pytest
from kubernetes.config import kube_config

from taoemb.cli.main import main
from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.kserve.again import retry, undo
from taoemb.rollout.kserve.cluster import Place, follow, set_paused, start_rollout
from taoemb.serving.traffic_kserve import kserve_traffic
from tests.rollout.controller_world import PLAN, RELEASE, ControllerWorld
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import CANDIDATE, CONTROL, CONTROL_URI, NAME, NAMESPACE, FakeKServe

SERVICE = Place(NAMESPACE, NAME)


@pytest.fixture
def world(request):
    with FakeApi() as api, FakeKServe(api) as kserve:
        made = ControllerWorld(api, kserve, getattr(request, "param", "Standard"))
        stop = threading.Event()
        work = threading.Thread(target=made.controller().run, args=(stop,))
        work.start()
        yield made
        stop.set()
        work.join(30)


def ended(world, place) -> dict:
    return follow(world.api.client(), place, say=lambda line: None, warn=lambda line: None, poll_s=0.01)


def served(world) -> str:
    return kserve_traffic(NAMESPACE, NAME, world.kserve.config, world.api.client()).control.release


@pytest.mark.parametrize("world", ["Standard", "Knative"], indirect=True)
def test_undo_after_a_promotion_brings_the_earlier_release_back(world):
    objects = world.api.client()
    first = start_rollout(objects, SERVICE, RELEASE, PLAN)
    assert ended(world, first)["phase"] == "Promoted"
    assert served(world) == CANDIDATE
    world.script = lambda state: pytest.fail("a way back that a person asked for waits for no look")
    back = undo(objects, first, "orders fell")
    assert back.name == f"{first.name}-undo"
    spec = world.api.get("encoderrollouts", NAMESPACE, back.name)["spec"]
    assert spec["candidate"] == {"release": CONTROL, "storageUri": CONTROL_URI}
    status = ended(world, back)
    assert status["phase"] == "Promoted", status
    assert "orders fell" in status["message"]
    assert served(world) == CONTROL
    with pytest.raises(InputError, match="another release was rolled out since"):
        undo(objects, first, "")


def test_undo_of_one_under_way_rolls_it_back_and_retry_starts_it_again(world):
    objects = world.api.client()
    world.script = lambda state: "continue"
    first = start_rollout(objects, SERVICE, RELEASE, PLAN)
    with pytest.raises(InputError, match="only one that ended without a promotion"):
        retry(objects, first)
    assert undo(objects, first, "too early") == first
    assert ended(world, first)["phase"] == "RolledBack"
    with pytest.raises(InputError, match="nothing to undo"):
        undo(objects, first, "")
    second, third = retry(objects, first), None
    assert second.name == f"{first.name}-2"
    assert (
        world.api.get("encoderrollouts", NAMESPACE, second.name)["spec"]["plan"]
        == (world.api.get("encoderrollouts", NAMESPACE, first.name)["spec"]["plan"])
    )
    undo(objects, second, "")
    assert ended(world, second)["phase"] == "RolledBack"
    third = retry(objects, second)
    assert third.name == f"{first.name}-3"


def test_a_rollout_that_ended_can_not_be_paused(world):
    objects = world.api.client()
    first = start_rollout(objects, SERVICE, RELEASE, PLAN)
    ended(world, first)
    with pytest.raises(InputError, match="is Promoted"):
        set_paused(objects, first, True, "")


def test_the_commands_on_a_cluster(world, tmp_path, monkeypatch, capsys):
    (tmp_path / "kubeconfig").write_text(world.api.kubeconfig())
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    world.script = lambda state: "continue"
    place = start_rollout(world.api.client(), SERVICE, Candidate(CANDIDATE, "s3://models/candidate"), PLAN)

    def run(*words: str, exits: int = 0) -> dict:
        with pytest.raises(SystemExit) as left:
            main(["rollout", *words, "--json"])
        assert left.value.code == exits
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    run("pause", "--rollout", str(place), "--why", "a sale")
    assert world.rollout(place.name)["spec"]["paused"] is True
    assert world.rollout(place.name)["spec"]["pauseReason"] == "a sale"
    run("resume", "--rollout", str(place))
    assert "paused" not in world.rollout(place.name)["spec"]
    run("undo", "--rollout", str(place), "--why", "enough")
    (row,) = run("list")["rollouts"]
    assert (row["rollout"], row["phase"]) == (str(place), "RolledBack")
    assert "enough" in row["reason"]
    assert run("list", "--namespace", "elsewhere")["rollouts"] == []
    assert run("retry", "--rollout", str(place)) == {"rollout": f"{place}-2"}
