"""A rendered GRPO TrainJob really runs: its own command and arguments, under torchrun with two ranks, from the CLI.

The cluster is the fake one, which starts what the TrainJob says with the environment that Kubeflow Trainer sets.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.jobs.fake_cluster import condition
from tests.rollout.crd_rules import train_jobs
from tests.training.conftest import SMALL, judge, model, records, release, shop

__all__ = ["judge", "model", "release", "shop"]

CLUSTER = ("job.backend=trainjob", "job.namespace=jobs", "job.poll_s=0.1")


@pytest.fixture
def taoemb(api, tmp_path):
    """Start `taoemb train grpo …` against the fake API server."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(api.kubeconfig())

    def start(shop, release, out, *settings, ranks=2):
        command = [sys.executable, "-m", "taoemb", "train", "grpo", "--data", shop, "--release", release, "--out", out]
        command += [
            "--ranks",
            ranks,
            "--json",
            *(part for setting in (*SMALL, *settings) for part in ("--set", setting)),
        ]
        environment = os.environ | {"KUBECONFIG": str(kubeconfig), "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*map(str, command)], env=environment, text=True, **pipes)

    return start


@pytest.mark.slow
def test_a_grpo_trainjob_runs_under_torchrun_with_two_ranks(api, cluster, taoemb, shop, release, judge, tmp_path):
    cluster()
    job = taoemb(shop, release, tmp_path / "run", f"judge.url={judge.url}", *CLUSTER)
    said, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors
    assert json.loads(said)["steps"] == 6
    assert [record["step"] for record in records(tmp_path / "run")] == list(range(6))
    assert "ALARM" in errors  # its log came here: random weights are a collapsed space
    (made,) = api.all("trainjobs")
    assert condition(api, made["metadata"]["name"]) == "Complete"
    trainer = made["spec"]["trainer"]
    assert (trainer["command"][0], trainer["numProcPerNode"]) == ("torchrun", 2)
    assert trainer["command"][-2:] == ["-m", "taoemb.training.grpo"]
    if train_jobs() is not None:
        assert train_jobs().errors(made) == []


@pytest.mark.slow
def test_ctrl_c_writes_a_checkpoint_and_the_same_command_resumes(api, cluster, taoemb, shop, release, judge, tmp_path):
    machine = cluster()
    settings = (f"judge.url={judge.url}", *CLUSTER, "grpo.steps=400", "engine.checkpoint_every=400")
    first = taoemb(shop, release, tmp_path / "run", *settings, ranks=1)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
        assert first.poll() is None, first.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130
    assert "train grpo is stopped; the same command goes on from its checkpoint" in said
    assert not api.all("trainjobs")
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    done = len(metrics.read_text().splitlines())
    second = taoemb(shop, release, tmp_path / "run", *settings, ranks=1)
    while len(metrics.read_text().splitlines()) < done + 2:
        assert second.poll() is None, second.stderr.read()
        assert time.monotonic() < deadline + 120
        time.sleep(0.05)
    steps = [record["step"] for record in records(tmp_path / "run")]
    assert steps == list(range(len(steps)))
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=120)
    assert machine.attempts == 2


@pytest.mark.slow
def test_bad_input_comes_back_from_torchrun_as_one_line_and_exit_code_2(
    api, cluster, taoemb, shop, release, judge, tmp_path
):
    machine = cluster()
    (tmp_path / "empty").mkdir()
    job = taoemb(tmp_path / "empty", release, tmp_path / "run", f"judge.url={judge.url}", *CLUSTER, ranks=1)
    _, said = job.communicate(timeout=300)
    assert job.returncode == 2, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("taoemb: train grpo failed: ")
    assert str(tmp_path / "empty") in last
    assert machine.attempts == 1
