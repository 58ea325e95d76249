"""Stop a running pipeline: the step first and alone, so that training can still write its checkpoint."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

STEP_S = 150.0  # for a step to end by itself: training finishes its step and writes a checkpoint
GROUP_S = 15.0


def stop(worker: subprocess.Popen[str]) -> None:
    """End the process group that `worker` leads: ask the running step, then everything, then end what is left.

    A step's helpers (a judge that it serves) stay up until the step itself is gone. Another interrupt ends all at once.
    """
    group = worker.pid
    print("stopping the running step; interrupt again to end it at once", file=sys.stderr, flush=True)
    try:
        running = _steps(group)
        for process in running:
            _signal(process, signal.SIGTERM)
        _wait(lambda: any(_alive(process) for process in running), STEP_S)
        if _signal_group(group, signal.SIGTERM):
            _wait(lambda: worker.poll() is None or _signal_group(group, 0), GROUP_S)
    finally:
        _signal_group(group, signal.SIGKILL)


def _steps(group: int) -> list[int]:
    """Processes of the group in which a component's function runs (none where there is no /proc)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"kfp.dsl.executor_main" in words and os.getpgid(int(folder.name)) == group:
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def _alive(process: int) -> bool:
    """Whether it runs; one that has ended and was not yet collected does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _signal(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return


def _signal_group(group: int, number: int) -> bool:
    """Whether there was anybody to send it to."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _wait(unfinished: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while unfinished() and time.monotonic() < deadline:
        time.sleep(0.05)
