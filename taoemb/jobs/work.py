"""What a job runs and what every place that runs it can do: the one interface of local processes and of a cluster.

A job starts one module on every rank (`python -m MODULE ARGS`), the same on this machine, under torchrun and in a
TrainJob. Its name follows from its run folder, so that the same command finds the same job again.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from taoemb.errors import InputError, TaoembError

MOST_BACKOFF_S = 600.0


@dataclass(frozen=True)
class Work:
    """One run of a module on all ranks of a job."""

    title: str
    """What people read, e.g. `train grpo`."""
    name: str
    """The same run has the same name; a DNS label."""
    module: str
    args: tuple[str, ...]
    out: Path
    """Its folder."""


@dataclass(frozen=True)
class Ended:
    """How a job ended. `lost`: the infrastructure failed, a new try may work; `input`: something must be mended."""

    state: Literal["done", "failed", "input", "lost"]
    reason: str = ""


class Job(Protocol):
    """A piece of work in one place. All methods but `logs` may be called again; each raises TaoembError."""

    def submit(self) -> None:
        """Start it; one that runs already is picked up."""

    def logs(self) -> Iterator[str]:
        """What it says, line by line, until it ends. Local processes write to this one's own streams instead."""

    def wait(self) -> Ended:
        """Until it has ended."""

    def cancel(self) -> None:
        """Stop it and wait until it has stopped: training writes its checkpoint first."""


def tell(line: str) -> None:
    """A line for whoever watches."""
    print(line, file=sys.stderr, flush=True)


def run_job(
    job: Job,
    title: str,
    *,
    retries: int = 0,
    backoff_s: float = 30.0,
    say: Callable[[str], None] = tell,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Run a job to its end; new tries only after failures of the infrastructure, each goes on from the checkpoint.

    `say` gets the job's lines. Raises InputError or TaoembError with the job's own reason; an interrupt cancels it.
    """
    for again in range(retries + 1):
        ended = _one_try(job, title, say)
        if ended.state == "done":
            return
        if ended.state != "lost":
            raise (InputError if ended.state == "input" else TaoembError)(f"{title} {ended.reason}")
        if again < retries:
            pause = min(backoff_s * 2**again, MOST_BACKOFF_S)
            say(f"{title} {ended.reason}; try {again + 2} of {retries + 1} in {pause:,.0f} s")
            sleep(pause)
    raise TaoembError(f"{title} {ended.reason} ({retries + 1} tries); the same command goes on from its checkpoint")


def _one_try(job: Job, title: str, say: Callable[[str], None]) -> Ended:
    try:
        job.submit()
        for line in job.logs():
            say(line)
        return job.wait()
    except (KeyboardInterrupt, SystemExit):
        job.cancel()
        tell(f"{title} is stopped; the same command goes on from its checkpoint")
        raise


def job_name(kind: str, folder: Path) -> str:
    """Name of the job that works in `folder`: whoever starts it again finds it."""
    identity = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:10]
    return f"taoemb-{kind.replace('_', '-')}-{identity}"
