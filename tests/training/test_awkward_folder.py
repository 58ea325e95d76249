"""One run a folder, no trace of a refused one, and no weights lost to a disk that is full or read-only."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from taoemb.errors import InputError
from taoemb.training import entry
from taoemb.training.entry import main
from taoemb.training.folder import RunFolder, check_room, held
from tests.training.conftest import SMALL, records
from tests.training.forked import Forked, fill_disk_after, fill_disk_before_release, signal_oneself


def argv(shop, out, *settings, release=None):
    given = ["--data", str(shop), "--out", str(out), *(("--release", str(release)) if release else ())]
    return [*given, *(part for setting in (*SMALL, *settings) for part in ("--set", setting))]


def ended(capfd, objective, arguments):
    """Exit code and the lines on standard error of a run in this process."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(objective, arguments)
    return stopped.value.code, capfd.readouterr().err.strip().splitlines()


def test_awkward_a_refused_run_leaves_no_trace(shop, release, judge, capfd, tmp_path):
    out = tmp_path / "new" / "run"
    url = f"judge.url={judge.url}"
    code, said = ended(capfd, "grpo", argv(shop, out, url, "grpo.k=1000", release=release))
    assert (code, len(said)) == (2, 1)
    assert "grpo.k is 1000, more than the pool" in said[0]
    assert list(tmp_path.iterdir()) == []
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    assert ended(capfd, "grpo", argv(shop, out, url, "grpo.k=1000", release=release))[0] == 2
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    job = Forked("grpo", argv(shop, out, url, "grpo.steps=2", release=release), tmp_path / "logs")
    assert job.wait() == [0], job.said()
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / ".lock").exists()


def test_awkward_ctrl_c_before_the_first_step(shop, capfd, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "open_dataset", interrupted)
    assert ended(capfd, "sft", argv(shop, tmp_path / "run")) == (
        130,
        ["taoemb: interrupted before the first step"],
    )
    assert not (tmp_path / "run").exists()


def test_awkward_second_run_in_a_folder_is_refused(shop, release, capfd, tmp_path):
    out = tmp_path / "run"
    more = ("sft.steps=4000", "engine.checkpoint_every=4000")
    first = Forked("sft", argv(shop, out, *more, release=release), tmp_path / "logs")
    while not (out / "metrics.jsonl").exists():
        assert first.alive(), first.said()
        time.sleep(0.02)
    code, said = ended(capfd, "sft", argv(shop, out, *more, release=release))
    assert (code, len(said)) == (2, 1)
    assert f"{out} is in use by another run (pid {first.processes[0].pid} on" in said[0]
    first.kill(signal.SIGTERM)
    assert first.wait() == [130]
    assert "run the same command to resume" in first.said().splitlines()[-1]
    steps = [record["step"] for record in records(out)]
    assert steps == list(range(len(steps)))


def test_awkward_lock_survives_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("pid 1 on elsewhere")  # left by a killed run
    with held(folder), pytest.raises(InputError, match=rf"in use by another run \(pid {os.getpid()} on "), held(folder):
        pass
    with held(folder):
        folder.metrics.write_text('{"step": 0}\n')
    assert [path.name for path in folder.root.iterdir()] == ["metrics.jsonl"]


@pytest.mark.slow
def test_awkward_ctrl_c_of_the_command_stops_its_ranks_with_a_checkpoint(shop, release, tmp_path):
    out = tmp_path / "run"
    arguments = argv(shop, out, "sft.steps=4000", "engine.checkpoint_every=4000", release=release)
    command = [sys.executable, "-m", "taoemb", "train", "sft", *arguments, "--ranks", "2"]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while not (out / "metrics.jsonl").exists() or len(records(out)) < 2:
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.1)
    job.send_signal(signal.SIGINT)
    said = job.communicate(timeout=120)[1]
    assert job.returncode == 130, said
    assert "Traceback" not in said
    assert said.count("run the same command to resume") == 1
    (saved,) = RunFolder(out).saved_steps()
    assert saved == len(records(out))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of three megabytes."""
    where = tmp_path / "disk"
    where.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", where], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"can't mount a small disk here: {made.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


@pytest.fixture(scope="module")
def unbroken(shop, release, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    assert Forked("sft", argv(shop, folder / "run", release=release), folder / "logs").wait() == [0]
    return folder / "run"


def same(out, whole):
    digests = [json.loads((run / "release" / "release.json").read_text())["digest"] for run in (out, whole)]
    assert digests[0] == digests[1]
    assert [r["loss"] for r in records(out)] == [r["loss"] for r in records(whole)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_awkward_disk_that_fills_up(ranks, shop, release, small_disk, unbroken, tmp_path):
    out, filler = small_disk / "run", small_disk / "filler"
    hooks = ((fill_disk_after, (2, str(filler), 0)),)
    job = Forked("sft", argv(shop, out, release=release), tmp_path / "logs", ranks, hooks)
    assert job.wait() == [1] * ranks, job.said()
    last = job.said().strip().splitlines()[-1]
    assert last.startswith(f"taoemb: {out}: ")
    assert "No space left" in last or "write" in last
    assert "the checkpoint of step 2 is kept: free the disk, then run the same command" in last
    assert "Traceback" not in job.said()
    others = [line for rank in range(1, ranks) for line in job.said(rank).splitlines()]
    assert not [line for line in others if line.startswith(("taoemb", "Traceback"))]  # one line says it, not one a rank
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-2"]
    filler.unlink()
    again = Forked("sft", argv(shop, out, release=release), tmp_path / "logs")
    assert again.wait() == [0], again.said()
    same(out, unbroken) if ranks == 1 else None


def test_awkward_release_that_does_not_fit(shop, release, small_disk, unbroken, tmp_path):
    out, filler = small_disk / "run", small_disk / "filler"
    hooks = ((fill_disk_before_release, (str(filler), 20_000)),)
    job = Forked("sft", argv(shop, out, release=release), tmp_path / "logs", hooks=hooks)
    assert job.wait() == [1], job.said()
    last = job.said().strip().splitlines()[-1]
    assert last.startswith(f"taoemb: {out}: the release can't be written (")
    assert "the checkpoint of step 6 is kept" in last
    assert not [path.name for path in out.iterdir() if "release" in path.name]
    assert not (out / "summary.json").exists()
    filler.unlink()
    again = Forked("sft", argv(shop, out, release=release), tmp_path / "logs")
    assert again.wait() == [0], again.said()
    same(out, unbroken)


def test_awkward_disk_without_room_is_warned_of(shop, release, small_disk, capfd, tmp_path):
    check_room(RunFolder(small_disk), 2_000_000, 1_000_000, 2)
    said = capfd.readouterr().err
    assert f"warning: {small_disk}: 3 MB are free, and the run's checkpoints and release take about 5 MB" in said
    check_room(RunFolder(small_disk), 200_000, 500_000, 2)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("ranks", [1, 2])
def test_awkward_disk_without_room_for_the_release_is_refused_before_a_step(ranks, shop, release, small_disk, tmp_path):
    out, filler = small_disk / "run", small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 40_000))
    job = Forked("sft", argv(shop, out, release=release), tmp_path / "logs", ranks)
    assert job.wait() == [2] * ranks, job.said()
    assert f"taoemb: {out}: 0 MB are free, and the run's release takes about" in job.said()
    assert not out.exists()


def test_awkward_read_only_disk(shop, release, small_disk, capfd):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, said = ended(capfd, "sft", argv(shop, small_disk / "run", release=release))
    assert (code, len(said)) == (2, 1)
    assert said[0] == (
        f"taoemb: {small_disk / 'run'}: can't be written (Read-only file system); give another --out, "
        "or make it writable"
    )


def test_awkward_settings_that_a_release_has_settled_are_said(shop, release, capfd, tmp_path):
    refuse = ("sft.queries=7", "engine.gradient_accumulation=2")
    code, said = ended(
        capfd,
        "sft",
        argv(shop, tmp_path / "run", *refuse, "encoder.pooling=cls", "encoder.max_query_tokens=32", release=release),
    )
    assert code == 2
    assert said[0].startswith(f"warning: {release}: a release keeps what it was trained with: ")
    assert "encoder.pooling is 'mean' in it, not 'cls'" in said[0]
    assert "encoder.max_query_tokens is 16 in it, not 32" in said[0]
    assert "max_item_tokens" not in said[0]  # as the release has it
    assert len(said) == 2


def test_awkward_compile_holds_for_a_release(release):
    from taoemb.config import EncoderConfig
    from taoemb.encoder.release import load_release

    assert load_release(release).query_encoder(config=EncoderConfig(compile=True)).compiled
    assert not load_release(release).query_encoder(config=EncoderConfig()).compiled


def test_awkward_state_of_a_checkpoint_runs_no_code(shop, release, tmp_path):
    import torch

    job = Forked(
        "sft", argv(shop, tmp_path / "run", release=release), tmp_path / "logs", hooks=((signal_oneself, (15, 2)),)
    )
    assert job.wait() == [130]
    saved = torch.load(tmp_path / "run" / "checkpoints" / "step-3" / "state.pt", weights_only=True)
    assert saved["step"] == 3
    assert saved["judges"] == ()
