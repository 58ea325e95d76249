"""`taoemb train … --set job.backend=trainjob`: detached, followed by the same command, failing in one line."""

import json

import pytest

from taoemb.cli.main import main
from tests.jobs.conftest import QUICK
from tests.jobs.fake_cluster import Attempt, exited


@pytest.fixture
def train(reachable, capsys):
    """Run `taoemb train sft`; gives (exit code, standard output, standard error)."""

    def call(*more):
        settings = [part for setting in QUICK for part in ("--set", setting)]
        with pytest.raises(SystemExit) as done:
            main(["train", "sft", "--data", "/mnt/shop", "--out", "/mnt/runs/a", *settings, "--json", *more])
        return done.value.code, *capsys.readouterr()

    return call


def test_a_detached_job_is_followed_by_the_same_command(train, api, cluster):
    machine = cluster(Attempt(lines=("step 1",), ends=""))
    code, said, _ = train("--detach")
    (made,) = api.all("trainjobs")
    name = made["metadata"]["name"]
    assert (code, json.loads(said)) == (0, {"job": name, "out": "/mnt/runs/a", "state": "submitted"})
    assert not made.get("status")
    machine.end(made, "Complete")
    code, said, log = train()
    assert (code, json.loads(said)["state"], log) == (0, "done", "step 1\n")
    assert machine.attempts == 1


def test_a_failure_is_one_line_after_the_log(train, cluster):
    cluster(exited(1, "step 1", "taoemb: judge http://j does not answer"))
    code, said, log = train()
    assert (code, said) == (1, "")
    assert log.splitlines()[-1] == "taoemb: train sft failed: judge http://j does not answer"


def test_the_namespace_is_the_context_s_own(reachable, api, cluster, capsys):
    cluster(exited(0))
    with pytest.raises(SystemExit) as done:
        main(
            [
                "train",
                "sft",
                "--data",
                "/d",
                "--out",
                "/mnt/o",
                "--set",
                "job.backend=trainjob",
                "--set",
                "job.poll_s=0.02",
            ]
        )
    assert done.value.code == 0, capsys.readouterr().err
    assert [body["metadata"]["namespace"] for body in api.all("trainjobs")] == ["default"]
