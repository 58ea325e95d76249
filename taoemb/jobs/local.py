"""Runs a job on this machine: one process a rank, as torchrun would start them.

It is the same entry point that a Kubeflow TrainJob starts. Own processes rather than torchrun, because a bad setting
must come back as one line and exit code 2, not as an elastic agent's report.
"""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from taoemb.config import rank_environment
from taoemb.jobs.work import Ended, run_job

POLL_S = 0.2
INTERRUPTED = 130  # exit code of a rank that a signal stopped, its checkpoint written
GRACE_S = 120.0  # for ranks to write their checkpoint after a signal


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LocalProcesses:
    """A job (`taoemb.jobs.work.Job`) as processes of this machine; they write to this process's own streams."""

    def __init__(self, module: str, args: Sequence[str], ranks: int) -> None:
        self._command, self._ranks = [sys.executable, "-m", module, *args], ranks
        self._processes: list[subprocess.Popen[bytes]] = []

    def submit(self) -> None:
        """Start every rank."""
        port = free_port()
        self._processes = [
            # Its own group: Ctrl-C of a terminal reaches this process alone, which stops the ranks in order.
            subprocess.Popen(self._command, env=rank_environment(rank, self._ranks, port), process_group=0)
            for rank in range(self._ranks)
        ]

    def logs(self) -> Iterator[str]:
        """Nothing: the processes write for themselves."""
        return iter(())

    def wait(self) -> Ended:
        """Until all ranks have ended; the first one that fails stops the others. One that was told to stop: Ctrl-C."""
        code = _wait(self._processes)
        if code == 0:
            return Ended("done")
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code < 0:
            return Ended("failed", f"was ended by signal {-code}; out of memory? The same command resumes")
        reason = f"ended with exit code {code}; its reason is in the line above"
        return Ended("input" if code == 2 else "failed", reason)

    def cancel(self) -> None:
        """Ask every rank to stop; one that does not within two minutes is ended."""
        _stop(self._processes)


def launch(objective: str, args: Sequence[str], ranks: int = 1) -> None:
    """Run `python -m taoemb.training.<objective> <args>` on `ranks` processes and wait.

    Raises InputError when the job says that its input is bad, TaoembError when it fails; the job itself has said why
    on standard error. An interrupt is passed on, so that the job writes its checkpoint.
    """
    title = f"train {objective.replace('_', '-')}"
    run_job(LocalProcesses(f"taoemb.training.{objective}", args, ranks), title)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
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


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
