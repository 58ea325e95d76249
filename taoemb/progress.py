"""Progress of long jobs: a live bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from taoemb.plain import one_line

LOG_EVERY_S = 15.0
T = TypeVar("T")


class Progress:
    """Counts finished units of one job; made by :func:`progress`."""

    def __init__(self, label: str, total: int | None) -> None:
        self.label, self.total, self.done = label, total, 0
        self._started = self._said = time.monotonic()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Say that `n` more units are done; `note` is shown beside the count."""
        self.done += n
        now = time.monotonic()
        if now - self._said >= LOG_EVERY_S:
            self._said = now
            rate = self.done / max(now - self._started, 1e-9)
            of = f"/{self.total:,}" if self.total else ""
            line = one_line(f"{self.label}: {self.done:,}{of} ({rate:,.1f}/s) {note}".rstrip())
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the job's display."""


class _Bar(Progress):
    def __init__(self, label: str, total: int | None) -> None:
        super().__init__(label, total)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        note = TextColumn("{task.fields[note]}", markup=False)
        self._bars = RichProgress(*columns, note, console=Console(stderr=True))
        self._task = self._bars.add_task(one_line(label), total=total, note="")
        self._bars.start()

    def advance(self, n: int = 1, note: str = "") -> None:
        self.done += n
        self._bars.update(self._task, advance=n, note=one_line(note))

    def close(self) -> None:
        self._bars.stop()


@contextmanager
def progress(label: str, total: int | None = None, *, show: bool = True) -> Iterator[Progress]:
    """Open a progress display on standard error; `show=False` (ranks other than 0) prints nothing."""
    if show and sys.stderr.isatty():
        bar: Progress = _Bar(label, total)
    else:
        bar = Progress(label, total)
        bar._said = bar._said if show else float("inf")
    try:
        yield bar
    finally:
        bar.close()


def track(items: Iterable[T], label: str, total: int | None = None, *, show: bool = True) -> Iterator[T]:
    """Iterate with progress, one unit an element."""
    with progress(label, total, show=show) as bar:
        for item in items:
            yield item
            bar.advance()
