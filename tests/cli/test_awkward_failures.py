"""Whatever a disk, the reader of a pipe or Ctrl-C does to a command: one line, the right exit code, nothing left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taoemb.cli.main import main
from taoemb.data.synth import synthesise
from tests.retrieval.conftest import make_releases
from tests.test_awkward_storage import read_only, small_disk

__all__ = ["small_disk"]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "taoemb", *map(str, arguments)]


def run(*arguments: object, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), stderr=subprocess.PIPE, text=True, timeout=300, check=False, **options)


def one_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith("taoemb: ")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    return lines[0]


def test_awkward_disks_at_the_command(small_disk: Path, tmp_path: Path) -> None:
    done = run("data", "synth", "--out", small_disk / "shop", "--items", 20_000, "--queries", 60)
    assert done.returncode == 1
    assert f"{small_disk}/shop: No space left on device" in one_line(done.stderr)
    assert list(small_disk.iterdir()) == []
    read_only(small_disk)
    done = run("data", "synth", "--out", small_disk / "shop", "--items", 300, "--queries", 60)
    assert done.returncode == 2
    assert f"{small_disk}/shop: Read-only file system" in one_line(done.stderr)
    (tmp_path / "items.csv").write_text("item_id,title\na,lamp\n")
    done = run("data", "import", "csv", tmp_path / "items.csv", "--out", small_disk / "shop")
    assert done.returncode == 2
    one_line(done.stderr)


@pytest.mark.parametrize("place", ["x" * 300, "/dev/null/shop", "/proc/shop"])
def test_awkward_paths_at_the_command(place: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["data", "synth", "--items", "300", "--queries", "60", "--out", place],
        ["data", "validate", place],
        ["search", "lamp", "--milvus", f"{place}/m.db"],
    ):
        with pytest.raises(SystemExit) as done:
            main(arguments)
        assert done.value.code in (1, 2), arguments
        one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_awkward_reader_that_goes_away(tmp_path: Path) -> None:
    synthesise(tmp_path / "shop", 300, 60, 0)
    reading, writing = os.pipe()
    os.close(reading)
    done = run("data", "validate", tmp_path / "shop", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
    with open("/dev/full", "w") as full:
        done = run("data", "validate", tmp_path / "shop", stdout=full)
    assert done.returncode == 1
    assert "No space left" in one_line(done.stderr)


def interrupted(arguments: tuple[object, ...], when: Callable[[], bool], folder: Path) -> tuple[int, str]:
    """Start a command in a group of its own and send the group SIGINT, as a terminal does, once `when` is true."""
    with (folder / "stderr").open("w+") as stderr:
        process = subprocess.Popen(
            command(*arguments), stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True, cwd=folder
        )
        until = time.monotonic() + 120
        while not when() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(60)
        stderr.seek(0)
        return code, stderr.read()


def test_awkward_ctrl_c_while_a_shop_is_made(tmp_path: Path) -> None:
    arguments = ("data", "synth", "--out", "shop", "--items", 100_000, "--queries", 60)
    code, said = interrupted(arguments, lambda: any(tmp_path.glob(".shop*")), tmp_path)
    assert (code, one_line(said)) == (130, "taoemb: interrupted")
    assert [path.name for path in tmp_path.iterdir()] == ["stderr"]


def test_awkward_ctrl_c_while_publishing_and_evaluating(tmp_path: Path) -> None:
    synthesise(tmp_path / "shop", 20_000, 60, 0)
    release = make_releases(tmp_path / "releases").base
    given = ("--release", release.path, "--data", tmp_path / "shop")
    code, said = interrupted(("publish", *given, "--milvus", "m.db"), (tmp_path / "m.db").exists, tmp_path)
    assert (code, one_line(said)) == (130, "taoemb: interrupted")
    out = tmp_path / "report"
    code, said = interrupted(("evaluate", *given, "--out", out), lambda: any(tmp_path.glob(".report*")), tmp_path)
    assert (code, one_line(said)) == (130, "taoemb: interrupted")
    assert not out.exists()
    assert not any(tmp_path.glob(".report*"))
