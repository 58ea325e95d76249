"""A run killed at any step and resumed ends as the unbroken one: same losses, same weights."""

import json
import random
import signal
import time

import pytest

from tests.training.conftest import records

STEPS = 12


def settings(objective, judge, extra):
    return [f"{objective}.steps={STEPS}", f"judge.url={judge.url}", *extra]


def digest(out):
    return json.loads((out / "release" / "release.json").read_text())["digest"]


def wait_for_step(out, step, job):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert job.poll() is None, job.stderr.read()
        if (out / "metrics.jsonl").exists() and len(records_so_far(out)) > step:
            return
        time.sleep(0.005)
    raise AssertionError("the run made no progress")


def records_so_far(out):
    return (out / "metrics.jsonl").read_text().split("\n")[:-1]


@pytest.mark.parametrize(
    ("objective", "extra"),
    [
        ("sft", ()),
        ("grpo", ("grpo.staleness=2",)),
        ("grpo", ("grpo.towers=both", "grpo.refresh=3")),
    ],
)
def test_sigkill_then_resume(objective, extra, start, train, release, judge, tmp_path):
    chosen = settings(objective, judge, extra)
    unbroken = train(objective, tmp_path / "unbroken", *chosen, release=release)
    out = tmp_path / "killed"
    step = random.Random(repr(extra)).randrange(3, STEPS - 1)
    job = start(objective, out, *chosen, release=release)
    wait_for_step(out, step, job)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert not (out / "release").exists()
    resumed = train(objective, out, *chosen, release=release)
    assert json.loads((out / "summary.json").read_text())["resumed_at"] > 0
    assert [r["step"] for r in resumed] == list(range(STEPS))
    for name in ("loss", "cosine_queries", *(("reward", "kl") if objective == "grpo" else ())):
        assert [r[name] for r in resumed] == pytest.approx([r[name] for r in unbroken], abs=1e-6), name
    assert digest(out) == digest(tmp_path / "unbroken")


def test_sigterm_writes_a_checkpoint_and_says_how_to_go_on(start, train, release, judge, tmp_path):
    chosen = [*settings("grpo", judge, ()), "engine.checkpoint_every=1000"]
    job = start("grpo", tmp_path / "run", *chosen, release=release)
    wait_for_step(tmp_path / "run", 2, job)
    job.send_signal(signal.SIGTERM)
    said = job.communicate(timeout=60)[1]
    assert job.returncode == 130
    assert "run the same command to resume" in said
    train("grpo", tmp_path / "run", *chosen, release=release)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["resumed_at"] > 0


def test_a_finished_run_is_not_run_again(train, release, judge, tmp_path):
    chosen = settings("grpo", judge, ())
    train("grpo", tmp_path / "run", *chosen, release=release)
    asked = len(judge.requests)
    train("grpo", tmp_path / "run", *chosen, release=release)
    assert len(judge.requests) == asked
    assert len(records(tmp_path / "run")) == STEPS


def test_another_runs_folder_is_refused(start, train, release, judge, tmp_path):
    train("sft", tmp_path / "run", release=release)
    job = start("sft", tmp_path / "run", "sft.tau=0.1", release=release)
    said = job.communicate(timeout=60)[1]
    assert job.returncode == 2
    assert "holds a run with other" in said
