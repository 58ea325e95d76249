"""Training jobs in processes of their own that start at once: forked from one that has imported everything already.

A fresh process spends ten times longer on importing torch, DeepSpeed and transformers than on a tiny run.
"""

import contextlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from taoemb.config import rank_environment
from taoemb.jobs.local import free_port

PRELOADED = ["tests.training.preloaded"]


def context() -> multiprocessing.context.ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


Hook = tuple[Callable[..., None], tuple[Any, ...]]
"""What a job's process does to itself before it trains."""


def _rank(objective: str, argv: list[str], environment: dict[str, str], log: str, hooks: Sequence[Hook]) -> None:
    os.environ.update(environment)
    with Path(log).open("w", encoding="utf-8") as file, contextlib.redirect_stderr(file):
        os.dup2(file.fileno(), 2)
        from taoemb.training.entry import main

        for hook, arguments in hooks:
            hook(*arguments)
        main(objective, argv)


def signal_oneself(number: int, after: int) -> None:
    """A real signal at a sure place, after the record of a step: a tiny run's steps are too short to aim at them."""
    after_record(after, lambda: os.kill(os.getpid(), number))


def fill_disk_after(step: int, filler: str, left: int) -> None:
    """After the record of a step, let the disk of `filler` have `left` bytes."""
    after_record(step, lambda: fill_disk(Path(filler), left))


def fill_disk_before_release(filler: str, left: int) -> None:
    """Once the last checkpoint stands, let the disk have `left` bytes."""
    from taoemb.training.sft import SFT

    save = SFT.save_release

    def fill_and_save(self: SFT, weights: Any, training: Any) -> Any:
        fill_disk(Path(filler), left)
        return save(self, weights, training)

    SFT.save_release = fill_and_save  # type: ignore[method-assign]


def fill_disk(filler: Path, left: int) -> None:
    free = shutil.disk_usage(filler.parent).free - left
    filler.write_bytes(bytes(max(0, free)))


def after_record(step: int, act: Callable[[], None]) -> None:
    from taoemb.training.tracking import JsonLines

    record = JsonLines.record

    def and_then(self: JsonLines, at: int, metrics: Mapping[str, float]) -> None:
        record(self, at, metrics)
        if at == step:
            act()

    JsonLines.record = and_then  # type: ignore[method-assign]


class Forked:
    """All ranks of one job; `said` is what the main rank wrote to standard error."""

    def __init__(
        self, objective: str, argv: Sequence[str], logs: Path, ranks: int = 1, hooks: Sequence[Hook] = ()
    ) -> None:
        port = free_port()
        logs.mkdir(parents=True, exist_ok=True)
        self.logs = [logs / f"{time.monotonic_ns()}-{rank}.txt" for rank in range(ranks)]
        self.processes: list[BaseProcess] = []
        for rank, log in enumerate(self.logs):
            environment = rank_environment(rank, ranks, port) | {"OMP_NUM_THREADS": "1"}
            own = {name: value for name, value in environment.items() if os.environ.get(name) != value}
            process = context().Process(target=_rank, args=(objective, list(argv), own, str(log), tuple(hooks)))
            process.start()
            self.processes.append(process)

    def kill(self, number: int) -> None:
        for process in self.processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    def wait(self, timeout: float = 240) -> list[int | None]:
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        if any(process.is_alive() for process in self.processes):
            self.kill(9)
            raise AssertionError(f"the job hangs: {self.said()}")
        return [process.exitcode for process in self.processes]

    def alive(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    def said(self, rank: int = 0) -> str:
        return self.logs[rank].read_text(encoding="utf-8", errors="replace") if self.logs[rank].exists() else ""
