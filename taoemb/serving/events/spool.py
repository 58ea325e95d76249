"""Rows on their way to the database, as lines in files: what a killed process took stays, and another one writes it.

A segment is a file of JSON lines. Its writer holds a lock on it (flock) while it is open; the lock goes with the
process. Whoever can lock a segment may take it, write its rows and remove it. Several processes may share the folder.
"""

import errno
import fcntl
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from taoemb.errors import InputError

_SEGMENT = re.compile(r"\d{20}-\d+-[0-9a-f]{12}\.jsonl")


class Spool:
    """The folder, and this process's open segment in it. Threads may append at once."""

    def __init__(self, folder: Path, most_bytes: float = math.inf) -> None:
        """`most_bytes` bounds what waits in the folder, of all processes, as far as this one has seen."""
        self.folder, self._most_bytes = folder, most_bytes
        self._waiting_bytes = 0
        self.owner = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._lock = threading.Lock()
        self._open: int | None = None
        self._size = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open = self._start_segment()
        except OSError as error:
            raise InputError(
                f"events.spool {folder}: {error.strerror or error}; name a folder that can be written"
            ) from None
        self.seal()

    def append(self, line: bytes) -> None:
        """Hand one line (it ends in a newline) to the kernel: it outlives this process, not yet a power cut.

        Raises OSError when the disk does not take it, e.g. because it is full, or the spool holds all that it may; the
        line is then not in the spool.
        """
        with self._lock:
            if self._open is None:
                self._waiting_bytes = self._measure()
                self._open, self._size = self._start_segment(), 0
            if self._waiting_bytes + self._size + len(line) > self._most_bytes:
                raise OSError(errno.EDQUOT, f"{self._most_bytes / 1e6:,.0f} MB wait already (events.spool_mb)")
            try:
                if os.write(self._open, line) != len(line):
                    raise OSError(errno.ENOSPC, "the disk took half a line")
            except OSError:
                os.ftruncate(self._open, self._size)
                raise
            self._size += len(line)

    def seal(self, *, sync: bool = False) -> None:
        """End the open segment so that it can be taken; with `sync`, once the disk has it."""
        with self._lock:
            ended, self._open = self._open, None
        if ended is not None:
            try:
                if sync:
                    os.fsync(ended)
            finally:
                os.close(ended)

    def waiting(self) -> list[Path]:
        """All segments of the folder, the oldest first, open ones too."""
        with os.scandir(self.folder) as entries:
            return [Path(e.path) for e in sorted(entries, key=lambda e: e.name) if _SEGMENT.fullmatch(e.name)]

    def lag_s(self, now: float) -> float:
        """Seconds since the oldest segment that waits was begun; 0 without one. `now` in Unix seconds."""
        segments = self.waiting()
        return max(0.0, now - int(segments[0].name.split("-")[0]) / 1e9) if segments else 0.0

    def _measure(self) -> int:
        """Bytes in all segments; the open one of another process counts as it is now."""
        total = 0
        for path in self.waiting():
            with suppress(FileNotFoundError):  # shipped meanwhile
                total += path.stat().st_size
        return total

    def _start_segment(self) -> int:
        """A new segment, locked before it can be found."""
        name = f"{time.time_ns():020d}-{self.owner}.jsonl"
        hidden = self.folder / f".{name}"
        opened = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            os.rename(hidden, self.folder / name)
        except OSError:
            os.close(opened)
            raise
        return opened


@dataclass(frozen=True)
class Segment:
    """A segment that this process has taken."""

    path: Path
    lines: list[bytes]
    """Whole lines; half a line at the end was never acknowledged and is left out."""

    def belongs_to(self, spool: Spool) -> bool:
        """Whether `spool` wrote it; else its writer is gone."""
        return spool.owner in self.path.name


@contextmanager
def take(path: Path) -> Iterator[Segment | None]:
    """Lock a segment and read it; None when somebody writes, has taken or has removed it. Remove it when it is done."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    with os.fdopen(opened, "rb") as file:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        if os.fstat(opened).st_nlink == 0:
            yield None
            return
        yield Segment(path, [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")])
