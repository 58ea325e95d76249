"""One leader at a time, on clocks that nobody compares; and the whole process: elect, work, answer, give back."""

import os
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from taoemb.config import load_config
from taoemb.errors import InputError, TaoembError
from taoemb.rollout.controller.health import Health, serve_health
from taoemb.rollout.controller.lease import LEASES, Lease
from taoemb.rollout.controller.resource_status import rfc3339
from taoemb.rollout.controller.run import run_controller
from tests.rollout.controller_world import SETTINGS, ControllerWorld
from tests.rollout.fake_api import FakeApi
from tests.rollout.fake_kserve import FakeKServe

WHERE = ("leases", "search", SETTINGS.lease)


class Clock:
    """Seconds of one machine."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def api():
    with FakeApi() as running:
        yield running


def candidate(api, name, start=0.0):
    clock = Clock(start)
    return Lease(api.client(), "search", name, SETTINGS, clock), clock


def holder(api) -> str:
    return api.get(*WHERE)["spec"]["holderIdentity"]


def test_the_first_leads_and_the_second_waits_for_its_silence(api):
    first, clock_1 = candidate(api, "first", 1e6)
    second, clock_2 = candidate(api, "second", 5.0)  # another machine, another clock
    assert first.attempt()
    assert not second.attempt()
    for _ in range(5):
        clock_1.now += 0.5
        clock_2.now += 0.5
        assert first.attempt()
        assert not second.attempt(), "a lease that is renewed does not run out"
    clock_2.now += 0.9
    assert not second.attempt()
    clock_2.now += 0.2
    assert second.attempt()
    assert holder(api) == "second"
    assert api.get(*WHERE)["spec"]["leaseTransitions"] == 1
    assert not first.attempt()
    assert not first.leading()


def test_a_leader_that_cannot_renew_stops_before_another_may_start(api):
    lease, clock = candidate(api, "first")
    assert lease.attempt()
    api.fail("GET", "leases", code=500, times=1000)
    clock.now += SETTINGS.renew_s - 0.01
    assert lease.leading()
    with pytest.raises(TaoembError):
        lease.attempt()
    clock.now += 0.02
    assert not lease.leading()
    assert clock.now < SETTINGS.lease_s


def test_of_two_that_ask_at_once_one_leads(api):
    first, _ = candidate(api, "first")
    second, _ = candidate(api, "second")
    raced = []

    def other(method: str, path: str) -> None:
        if method in ("POST", "PUT") and not raced:
            raced.append(1)
            assert second.attempt()

    api.before.append(other)
    assert not first.attempt()
    assert second.leading()
    assert holder(api) == "second"


def test_a_released_lease_is_free_at_once(api):
    first, _ = candidate(api, "first")
    second, _ = candidate(api, "second")
    assert first.attempt()
    first.release()
    assert not first.leading()
    assert holder(api) == ""
    assert second.attempt()
    first.release()
    assert holder(api) == "second", "who does not hold it can't release it"


def test_a_restarted_process_waits_for_its_predecessor(api):
    """Another process of the same pod has another identity: a hanging predecessor may still act."""
    first, _ = candidate(api, "pod_1_aaaa")
    again, clock = candidate(api, "pod_1_bbbb")
    assert first.attempt()
    assert not again.attempt()
    clock.now += 1.1
    assert again.attempt()


def test_the_lease_is_one_that_other_tools_read(api):
    lease, _ = candidate(api, "first")
    lease.attempt()
    lease.attempt()
    spec = api.client().get(LEASES, "search", SETTINGS.lease)["spec"]
    assert spec["leaseDurationSeconds"] == 1
    assert spec["leaseTransitions"] == 0
    assert spec["acquireTime"] <= spec["renewTime"]
    assert spec["renewTime"].endswith("Z")


def test_who_stands_by_says_so_once_for_each_leader(api, caplog):
    first, _ = candidate(api, "first")
    second, clock = candidate(api, "second")
    assert first.attempt()
    caplog.set_level("INFO", logger="taoemb.rollout.controller.lease")
    stop = threading.Event()
    watching = threading.Thread(target=second.run, args=(stop,))
    watching.start()
    wait_for(lambda: "second stands by; first leads" in caplog.messages)
    clock.now += 1.1
    wait_for(lambda: "second leads" in caplog.messages)
    stop.set()
    watching.join(30)
    assert caplog.messages == ["second stands by; first leads", "second leads"]


def test_two_processes_one_works_and_hands_over_when_told_to_end():
    with FakeApi() as api, FakeKServe(api) as kserve:
        world = ControllerWorld(api, kserve)
        config = load_config(None, []).model_copy(update={"controller": SETTINGS})
        stops = [threading.Event(), threading.Event()]
        runs = [
            threading.Thread(
                target=run_controller,
                args=(config,),
                kwargs={"objects": api.client(), "tools": world.tools(), "stop": stop},
            )
            for stop in stops
        ]
        runs[0].start()
        wait_for(lambda: ("leases", "default", SETTINGS.lease) in api.objects)
        leader = api.get("leases", "default", SETTINGS.lease)["spec"]["holderIdentity"]
        runs[1].start()
        world.begin()
        wait_for(world.ended)
        assert world.status()["phase"] == "Promoted"
        assert api.get("leases", "default", SETTINGS.lease)["spec"]["holderIdentity"] == leader
        stops[0].set()
        runs[0].join(30)
        wait_for(lambda: api.get("leases", "default", SETTINGS.lease)["spec"]["holderIdentity"] not in ("", leader))
        stops[1].set()
        runs[1].join(30)
        assert not any(run.is_alive() for run in runs)
        assert api.get("leases", "default", SETTINGS.lease)["spec"]["holderIdentity"] == ""


def test_the_command_gives_the_lease_back_when_it_is_told_to_end(tmp_path):
    with FakeApi() as api, FakeKServe(api) as kserve:
        world = ControllerWorld(api, kserve)
        world.begin("broken", service="no-such-service")
        (tmp_path / "kubeconfig").write_text(api.kubeconfig())
        settings = ("port=0", "lease_namespace=search", "poll_s=0.1")
        command = [sys.executable, "-m", "taoemb", "rollout", "controller", "--namespace", "search"]
        command += [word for one in settings for word in ("--set", f"controller.{one}")]
        environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig")}
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        try:
            wait_for(lambda: process.poll() is not None or world.condition("Degraded", "broken") == "True")
            leader = holder(api) if process.poll() is None else "nobody: it ended"
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
        assert leader in said
        assert process.returncode == 0, said
        assert holder(api) == ""
        assert "EncoderRollout search/broken: GET" in said
        assert "Traceback" not in said
        assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (INFO|WARNING) taoemb\.", line) for line in said.splitlines())
        (lease,) = [body for (plural, *_), body in api.objects.items() if plural == "leases"]
        assert api.managers[lease["metadata"]["name"]] == "taoemb"


def test_health_tells_alive_from_ready():
    health = Health(stale_after_s=0.2)
    with serve_health(health, "127.0.0.1", 0) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        health.swept(leading=True)
        assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/none")] == [200, 503, 404]
        health.listed([seen("a", "Stepping"), seen("b", "Stepping"), seen("c", "Promoted")])
        assert client.get("/readyz").status_code == 200
        assert 'taoemb_rollouts{phase="Stepping"} 2.0' in client.get("/metrics").text
        wait_for(lambda: client.get("/healthz").status_code == 503)
        with pytest.raises(InputError, match=r"controller\.port"), serve_health(health, "127.0.0.1", port):
            pass


def test_a_broken_split_is_a_metric_for_an_hour():
    health = Health(60)
    now = datetime.now(UTC)
    health.listed([seen("a", "Stepping", now), seen("b", "RolledBack", now - timedelta(hours=2)), seen("c", "Pending")])
    (line,) = [line for line in health.answer("/metrics")[1].decode().splitlines() if "taoemb_rollout_check{" in line]
    assert line == (
        'taoemb_rollout_check{check="sample ratio",points_to="rollback",rollout="a",rollout_namespace="search"} 1.0'
    )


def seen(name: str, phase: str, looked_at: datetime | None = None) -> dict:
    """An EncoderRollout as the controller lists it."""
    status: dict = {"phase": phase}
    if looked_at is not None:
        status["lastLook"] = rfc3339(looked_at.timestamp())
        status["reasons"] = [{"check": "sample ratio", "pointsTo": "rollback", "text": "the split does not work"}]
    return {"metadata": {"namespace": "search", "name": name}, "status": status}


def wait_for(done, timeout_s: float = 60) -> None:
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        if done():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen")
