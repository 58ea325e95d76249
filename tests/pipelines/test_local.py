"""Local runs through the real command line and the real kfp.local: results, reuse, failures, interruption, tidiness."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taoemb.errors import InputError, TaoembError
from taoemb.jobs.pipeline_local import StepFailed, run_local

GRPO = Path(__file__).resolve().parents[2] / "pipelines" / "grpo.yaml"


def made(source: Path) -> int:
    return (source / "runs.txt").read_text().count("made")


def test_a_run_hands_out_its_outputs_and_leaves_nothing_else(toy, source, taoemb, tmp_path):
    done = taoemb("run", toy.path, "-p", f"folder={source}", "-p", "times=3", "--out", "out")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "cwd" / "out"
    assert (out / "release" / "weights.txt").read_text() == "ababab"
    assert json.loads((out / "metrics.json").read_text()) == {"score": 1}
    assert (out / "report.html").read_text() == "<p>report</p>"
    assert [path.name for path in (tmp_path / "cwd").iterdir()] == ["out"]
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        *("logs", "metrics.json", "release", "report.html", "run.json", "steps")
    ]
    assert not list((tmp_path / "tmp").iterdir())
    assert "making ab\n" in (out / "logs" / "make.log").read_text()
    assert "making ab" not in done.stdout + done.stderr
    assert "[2/4] make artefacts: done" in done.stderr
    assert "report.html" in done.stdout
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "done"
    assert record["arguments"]["times"] == 3
    assert [step["state"] for step in record["steps"]] == ["done"] * 4


def test_json_is_one_object(toy, source, taoemb, tmp_path):
    done = taoemb("run", toy.path, "-p", f"folder={source}", "--json")
    result = json.loads(done.stdout)
    assert result["out"] == "runs/toy"
    assert set(result["outputs"]) == {"release", "metrics", "report"}
    assert [step["title"] for step in result["steps"]] == ["look", "make artefacts", "make others", "check"]


def test_a_failing_step_is_named_with_its_last_line_and_log(toy, source, taoemb, tmp_path):
    done = taoemb("run", toy.path, "-p", f"folder={source}", "-p", "passes=false", "--out", "out")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        "taoemb: step 'check' failed: the release is not good enough; log: out/logs/check.log; "
        "out holds metrics.json, release, report.html"
    )
    assert "Traceback" not in done.stderr
    assert "Traceback" in (tmp_path / "cwd" / "out" / "logs" / "check.log").read_text()
    # what came before is there, and the retries of a cluster (600 s) were not waited for
    assert (tmp_path / "cwd" / "out" / "report.html").exists()
    assert json.loads((tmp_path / "cwd" / "out" / "run.json").read_text())["state"] == "failed"


def test_a_second_run_reuses_what_still_holds(toy, source, tmp_path):
    out = tmp_path / "out"
    arguments = {"folder": str(source), "times": 1}
    with pytest.raises(StepFailed):
        run_local(toy, {**arguments, "passes": False}, out)
    assert made(source) == 2
    again = run_local(toy, arguments, out)
    assert [step.state for step in again.steps] == ["done", "reused", "reused", "done"]
    assert made(source) == 2
    assert (out / "release" / "weights.txt").read_text() == "ab"

    other = run_local(toy, {**arguments, "times": 2}, out)
    assert [step.state for step in other.steps] == ["done", "done", "reused", "done"]
    assert (out / "release" / "weights.txt").read_text() == "abab"
    back = run_local(toy, arguments, out)
    assert [step.state for step in back.steps] == ["done", "reused", "reused", "reused"]
    assert (out / "release" / "weights.txt").read_text() == "ab"  # not the newest, but this run's
    folders = {step.name: step.folder for step in back.steps}
    assert folders["make"] is not None
    assert (folders["make"] / "release" / "weights.txt").read_text() == "ab"

    (source / "input.txt").write_text("xy")
    changed = run_local(toy, arguments, out)
    assert [step.state for step in changed.steps] == ["done", "done", "done", "done"]
    assert (out / "release" / "weights.txt").read_text() == "xy"

    fresh = run_local(toy, arguments, out, fresh=True)
    assert [step.state for step in fresh.steps] == ["done"] * 4
    assert made(source) == 7


def test_an_output_outlives_the_steps_files(toy, source, tmp_path):
    out = tmp_path / "out"
    run_local(toy, {"folder": str(source)}, out)
    shutil.rmtree(out / "steps")
    assert (out / "release" / "weights.txt").read_text() == "abab"
    assert [step.state for step in run_local(toy, {"folder": str(source)}, out).steps] == ["done"] * 4


def test_an_output_that_was_not_made_is_not_an_earlier_one(toy, source, tmp_path):
    out = tmp_path / "out"
    run_local(toy, {"folder": str(source)}, out)
    (source / "input.txt").unlink()
    with pytest.raises(StepFailed, match="step 'look' failed"):
        run_local(toy, {"folder": str(source)}, out)
    assert not (out / "release").exists()
    assert not (out / "report.html").exists()


def test_a_workspace_is_given_a_place_unless_it_has_one(toy, source, tmp_path):
    run_local(toy, {"folder": str(source)}, tmp_path / "out")
    assert (source / "waiting.txt").read_text() == str(tmp_path / "out" / "work")
    run_local(toy, {"folder": str(source), "workspace": "/elsewhere"}, tmp_path / "out")
    assert (source / "waiting.txt").read_text() == "/elsewhere"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-p", "folde=x"), "--param folde: toy has no such parameter; it has extra, folder, passes"),
        (("-p", "folder=x", "-p", "times=many"), "--param times: expected int, got 'many'"),
        ((), "--param folder=… is needed: Where the input lies."),
        (("-p", "folder=x", "--set", "grpo.k=4"), "pipeline toy takes no settings"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(toy, taoemb, tmp_path, arguments, message):
    done = taoemb("run", toy.path, *arguments, "--out", "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "cwd" / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "grpo.k=1"), "settings: grpo.k: input should be greater than or equal to 2"),
        (("-p", "settings=grpo: {kk: 1}"), "settings: grpo.kk: no such setting"),
        (("-p", "settings=grpo: {k: 4}", "--set", "grpo.k=5"), "give either this or --config and --set"),
        (("--config", "none.yaml"), "none.yaml: No such file"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(taoemb, tmp_path, arguments, message):
    done = taoemb("run", GRPO, "-p", "data=/nowhere", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "cwd").iterdir())


def test_a_dataset_that_is_not_there_stops_the_first_step(taoemb):
    done = taoemb("run", GRPO, "-p", "data=/nowhere", "--out", "out")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("taoemb: step 'validate' failed: /nowhere: no such folder")


def test_bad_folders_are_refused(toy, source, taoemb, tmp_path):
    assert taoemb("run", toy.path.with_suffix(".py"), "-p", f"folder={source}").returncode == 2
    arguments = {"folder": str(source)}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").touch()
    with pytest.raises(InputError, match="holds other files"):
        run_local(toy, arguments, tmp_path / "full", fresh=True)
    with pytest.raises(InputError, match="not a folder"):
        run_local(toy, arguments, tmp_path / "full" / "precious.txt")
    (tmp_path / "other").mkdir()
    for record, what in (('{"pipeline": "sft"}', "sft"), ('{"digest": "1"}', "something else")):
        (tmp_path / "other" / "run.json").write_text(record)
        with pytest.raises(InputError, match=f"holds a run of {what}, not of toy"):
            run_local(toy, arguments, tmp_path / "other")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_its_steps_and_can_go_on(toy, source, tmp_path, number):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "taoemb", "pipeline", "run", str(toy.path), "--out", str(out)]
    command += ["-p", f"folder={source}", "-p", "wait=60"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    _wait_for(source / "waiting.txt")
    with pytest.raises(TaoembError, match="another run is using this folder"):
        run_local(toy, {"folder": str(source)}, out)
    children = _children(process.pid)
    assert children
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert "stopping the running step" in said
    assert "[4/4] check: stopped" in said
    assert (source / "stopped.txt").read_text() == "helper: None"
    assert process.returncode in (130, 143)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert json.loads((out / "run.json").read_text())["state"] == "interrupted"
    assert (out / "report.html").exists()
    again = run_local(toy, {"folder": str(source)}, out)
    assert [step.state for step in again.steps] == ["done", "reused", "reused", "done"]


def test_a_killed_runner_leaves_no_step_behind(toy, source, tmp_path):
    command = [sys.executable, "-m", "taoemb", "pipeline", "run", str(toy.path), "--out", str(tmp_path / "out")]
    command += ["-p", f"folder={source}", "-p", "wait=60"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    _wait_for(source / "waiting.txt")
    children = _children(process.pid)
    os.kill(children[0], signal.SIGKILL)  # the process that kfp.local runs in
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the pipeline's process ended in step 'check' with exit code -9" in said.strip().splitlines()[-1]
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, "the last step never started"
        time.sleep(0.05)


def _children(parent: int) -> list[int]:
    """All descendants of a process."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()[1:]]
    found, edge = [], [parent]
    while edge:
        edge = [pid for pid, ppid in pairs if ppid in edge and pid != os.getpid()]
        found += edge
    return found
