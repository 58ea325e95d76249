"""Training runs one after the other in one process beside the tests: a run then takes a second, not ten.

DeepSpeed joins a process group once in the life of a process, so all runs share one.
"""

import signal
from contextlib import ExitStack, nullcontext

import torch

from taoemb.training import entry
from taoemb.training.distributed import joined_ranks
from taoemb.training.tracking import JsonLines

_held = ExitStack()  # left when the process ends


def join() -> None:
    """Make this process the place of the runs."""
    torch.set_num_threads(1)
    ranks = _held.enter_context(joined_ranks())
    entry.joined_ranks = lambda: nullcontext(ranks)


def run(objective: str, arguments: list[str], stop_after: int | None = None) -> None:
    """One run; with `stop_after`, SIGTERM comes when that step has been recorded. Raises what the run raises."""
    record = JsonLines.record

    def recorded(self, step, metrics):
        record(self, step, metrics)
        if step == stop_after:
            signal.raise_signal(signal.SIGTERM)

    JsonLines.record = recorded
    try:
        entry.run(objective, entry._parse(objective, arguments))
    finally:
        JsonLines.record = record
