"""What a person sees of a local pipeline run: one line a step, the step's own last line beside a running clock."""

import sys
import time
from types import TracebackType
from typing import Self

from taoemb.plain import one_line
from taoemb.progress import LOG_EVERY_S


class Display:
    """Shows steps on standard error: live on a terminal, plain lines in a log. Used as a context manager."""

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self._title, self._note = "", ""
        self._started = self._said = time.monotonic()
        self._live = _Live() if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._live is not None:
            self._live.close()

    def begin(self, title: str) -> None:
        """A step starts."""
        self.count += 1
        self._title, self._note = title, ""
        self._started = self._said = time.monotonic()
        if self._live is not None:
            self._live.show(self._label())
        else:
            self._say(f"{self._label()} …")

    def note(self, line: str) -> None:
        """The running step said `line`."""
        if not line.strip() or not self._title:
            return
        self._note = one_line(line.strip())
        if self._live is not None:
            self._live.note(self._note)
        elif time.monotonic() - self._said >= LOG_EVERY_S:
            self._say(f"{self._label()}: {self._note}")

    def end(self, state: str) -> None:
        """The running step ended as `state` ("done", "failed", "stopped")."""
        seconds = time.monotonic() - self._started
        self._say(f"{self._label()}: {state} ({seconds:,.1f} s)")
        self._title = ""

    def reused(self, title: str) -> None:
        """A step was not run: its earlier result stands."""
        self.count += 1
        self._title = title
        self._say(f"{self._label()}: reused")
        self._title = ""

    def _label(self) -> str:
        return f"[{self.count}/{self.total}] {self._title}"

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        line = one_line(line)
        if self._live is not None:
            self._live.say(line)
        else:
            print(line, file=sys.stderr, flush=True)


class _Live:
    """A spinner, a clock and the step's last line, redrawn in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        note = TextColumn("{task.fields[note]}", markup=False)
        label = TextColumn("{task.description}", markup=False)
        self._console = Console(stderr=True, highlight=False)
        self._bars = Progress(SpinnerColumn(), label, TimeElapsedColumn(), note, console=self._console, transient=True)
        self._bars.start()

    def show(self, label: str) -> None:
        self._clear()
        self._bars.add_task(label, total=None, note="")

    def note(self, text: str) -> None:
        for task in self._bars.task_ids:
            self._bars.update(task, note=text)

    def say(self, line: str) -> None:
        self._clear()
        self._console.print(line, markup=False)

    def close(self) -> None:
        self._clear()
        self._bars.stop()

    def _clear(self) -> None:
        for task in list(self._bars.task_ids):
            self._bars.remove_task(task)
