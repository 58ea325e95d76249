"""The output folder of a run: what stands in it, who may write it now, and what is left when a run is refused.

One run a folder. The lock is the kernel's, on an open file: it ends with the process that holds it, however that ends.
"""

import fcntl
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taoemb.errors import InputError
from taoemb.training.distributed import Ranks

PREFIX = "step-"
_LOCK = ".lock"


@dataclass(frozen=True)
class RunFolder:
    """The output folder of a training run."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def release(self) -> Path:
        return self.root / "release"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def marker(self) -> Path:
        """What run the folder holds."""
        return self.root / "run.json"

    def judgments(self, ranks: Ranks) -> Path:
        """The judgment cache of the machine that this rank runs on: SQLite must not be shared over a network."""
        return self.root / ("judgments.sqlite" if ranks.node == 0 else f"judgments-{ranks.node}.sqlite")

    def saved_steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first."""
        names = (entry.name for entry in self.checkpoints.glob(f"{PREFIX}*"))
        return sorted(int(name.removeprefix(PREFIX)) for name in names)

    def checkpoint(self, step: int) -> Path:
        """The checkpoint made after `step` steps."""
        return self.checkpoints / f"{PREFIX}{step}"

    def begun(self) -> bool:
        """Whether a run has done anything here: a step, a checkpoint, a release."""
        trained = self.metrics.is_file() and self.metrics.stat().st_size > 0
        return trained or self.summary.exists() or bool(self.saved_steps())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    os.replace(partial, path)


def tidy(folder: RunFolder) -> None:
    """Remove the halves that a killed run has left; only who holds the folder may."""
    for half in (*folder.root.glob(f".{folder.release.name}.*-*"), *folder.checkpoints.glob(f".{PREFIX}*.partial")):
        shutil.rmtree(half, ignore_errors=True)


def check_room(folder: RunFolder, release_bytes: int, checkpoint_bytes: int, keep: int) -> None:
    """Warn on standard error when the disk has less room than the run's checkpoints and its release will take.

    Raises InputError when not even the release fits: whatever was trained would be lost.
    """
    there = len(folder.saved_steps())  # one more than is kept stands there while it takes its place
    needed = release_bytes + checkpoint_bytes * max(1, keep + 1 - there)
    free = shutil.disk_usage(folder.root).free
    said = f"{folder.root}: {free / 1e6:,.0f} MB are free, and the run's "
    if free < release_bytes:
        raise InputError(f"{said}release takes about {release_bytes / 1e6:,.0f} MB; free space, or give another --out")
    if free < needed:
        print(
            f"warning: {said}checkpoints and release take about {needed / 1e6:,.0f} MB; free space, lower "
            "engine.keep_checkpoints, or give another --out",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Hold the folder, made if need be, for the block (main rank). A block that ends before a run has begun leaves
    no trace of itself.

    Raises InputError when another run holds it or it can't be written.
    """
    missing = [path for path in (folder.root, *folder.root.parents) if not path.exists()]
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        others = set(folder.root.iterdir())
        lock = _lock(folder.root)
    except OSError as error:
        raise InputError(
            f"{folder.root}: can't be written ({error.strerror or error}); give another --out, or make it writable"
        ) from None
    try:
        yield
    finally:
        if not folder.begun():
            _withdraw(folder, others)
        with suppress(OSError):  # a disk that became read-only; the lock itself ends anyway
            (folder.root / _LOCK).unlink(missing_ok=True)
        os.close(lock)
        for path in missing:
            with suppress(OSError):  # it holds something by now
                path.rmdir()


def _lock(root: Path) -> int:
    """The open lock file of the folder; InputError when another process holds it."""
    while True:
        lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(lock, root / _LOCK):  # a run that ended meanwhile has removed the file
                os.ftruncate(lock, 0)
                os.pwrite(lock, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)
                return lock
        except BlockingIOError:
            holder = os.read(lock, 200).decode(errors="replace") or "its process is unknown"
            os.close(lock)
            raise InputError(
                f"{root} is in use by another run ({holder}); wait for it or stop it, or give another --out"
            ) from None
        except OSError:
            os.close(lock)
            raise
        os.close(lock)


def _is_named(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def _withdraw(folder: RunFolder, others: set[Path]) -> None:
    """Remove what a run that never began has put beside what was there before."""
    caches = folder.root.glob("judgments*.sqlite*")
    for path in {*caches, folder.marker, folder.metrics, folder.checkpoints, folder.root / "tensorboard"} - others:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
