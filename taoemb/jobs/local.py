"""Runs a training entry point on this machine: one process a rank, as torchrun would start them.

It is the same entry point that a Kubeflow TrainJob starts. Own processes rather than torchrun, because a bad setting
must come back as one line and exit code 2, not as an elastic agent's report.
"""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from taoemb.config import rank_environment
from taoemb.errors import InputError, TaoembError

POLL_S = 0.2
GRACE_S = 120.0  # for ranks to write their checkpoint after a signal


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(objective: str, args: Sequence[str], ranks: int = 1) -> None:
    """Run `python -m taoemb.training.<objective> <args>` on `ranks` processes and wait.

    Raises InputError when the job says that its input is bad, TaoembError when it fails; the job itself has said why
    on standard error. An interrupt is passed on, so that the job writes its checkpoint.
    """
    if ranks < 1:
        raise InputError(f"--ranks {ranks}: at least 1")
    command = [sys.executable, "-m", f"taoemb.training.{objective}", *args]
    port = free_port()
    processes = [subprocess.Popen(command, env=rank_environment(rank, ranks, port)) for rank in range(ranks)]
    try:
        code = _wait(processes)
    except KeyboardInterrupt:
        _stop(processes)
        raise
    if code:
        what = InputError if code == 2 else TaoembError
        raise what(f"train {objective.replace('_', '-')} ended with exit code {code}; its reason is in the line above")


def _wait(processes: Sequence[subprocess.Popen]) -> int:
    """The first exit code that is not 0, once every process has ended; the others are stopped then."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [code for code in codes if code]
        if failed:
            _stop(processes)
            return failed[0]
        if all(code == 0 for code in codes):
            return 0
        time.sleep(POLL_S)


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
