"""Processes that outlive who started them: found again, never doubled, and never mistaken for another one."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from taoemb.rollout.local.processes import Processes, Wanted, free_port
from tests.serving.gateway_shop import wait_until


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.remove(*made.all())


def sleeper(folder: Path, name: str = "one", code: str = "time.sleep(600)") -> Wanted:
    """A process with a command line of its own."""
    return Wanted(name, (sys.executable, "-c", f"import time; print('up', flush=True); {code}", str(folder / name)), 1)


def living(wanted: Wanted) -> list[int]:
    found = psutil.process_iter(["cmdline", "status"])
    ours = [one for one in found if one.info["cmdline"] == list(wanted.command)]
    return [one.pid for one in ours if one.info["status"] != psutil.STATUS_ZOMBIE]


def test_what_dies_is_started_again_and_what_is_removed_ends(processes: Processes, tmp_path: Path) -> None:
    wanted = sleeper(tmp_path)
    processes.add(wanted)
    processes.keep_running()
    [pid] = living(wanted)
    processes.keep_running()
    assert living(wanted) == [pid]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not living(wanted))
    processes.keep_running()
    [other] = living(wanted)
    assert other != pid
    assert Processes(tmp_path).all()["one"].pid == other, "the next command finds it"
    processes.remove("one")
    assert living(wanted) == []
    assert processes.all() == {}


def test_a_start_that_was_not_written_down_is_found_again(processes: Processes, tmp_path: Path) -> None:
    wanted = sleeper(tmp_path)
    processes.add(wanted)
    processes.keep_running()
    [pid] = living(wanted)
    processes._write({"one": wanted})  # as it stands when a start is cut off
    processes.keep_running()
    assert living(wanted) == [pid]
    assert processes.all()["one"].pid == pid
    processes._write({"one": wanted})
    processes.remove("one")
    assert living(wanted) == []


def test_a_process_id_that_went_to_another_is_left_alone(processes: Processes, tmp_path: Path) -> None:
    wanted, stranger = sleeper(tmp_path), sleeper(tmp_path, "stranger")
    processes.add(stranger)
    processes.keep_running()
    [pid] = living(stranger)
    started = processes.all()["stranger"]
    processes._write({"one": replace(wanted, pid=pid, created=started.created - 100), "stranger": started})
    processes.remove("one")
    assert living(stranger) == [pid]


def test_what_ends_at_once_is_started_more_and_more_rarely(processes: Processes, tmp_path: Path) -> None:
    processes.add(sleeper(tmp_path, code="raise SystemExit('no such release')"))
    deadline = time.monotonic() + 60
    starts = set()
    while processes.all()["one"].deaths < 2:
        assert time.monotonic() < deadline
        processes.keep_running()
        starts.add(processes.all()["one"].pid)
        time.sleep(0.02)
    assert len(starts) == 3
    wait_until(lambda: processes.last_words("one") == "no such release")


def test_free_ports_are_free() -> None:
    assert len({free_port() for _ in range(5)}) > 1
