"""Keeps the processes of a local rollout running: detached from whoever started them, and found again by the next one.

DIR/processes.json says which processes there shall be. A process is written there before it is started, and is known
by its exact command line and start time, so neither a crash in between nor a process id that was given out again
leads to a second copy or to the wrong one being stopped.
"""

import dataclasses
import fcntl
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from taoemb.errors import TaoembError

STOP_S = 40.0  # longer than servers drain
SETTLED_S = 60.0  # a process that lived so long starts again at once
LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class Wanted:
    """A process that shall run, and the one that was started for it last."""

    name: str
    command: tuple[str, ...]
    port: int
    release: str = ""
    """Digest that it serves; empty: the gateway."""
    pid: int = 0
    """0: not started yet."""
    created: float = 0.0
    """When the operating system says that the process began."""
    started_at: float = 0.0
    """Unix seconds."""
    deaths: int = 0
    """How often in a row it ended soon after its start."""


class Processes:
    """The processes of one folder. Every method may be repeated; `locked` keeps other commands out meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "processes.json"
        self._lock = folder / ".lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process (or thread) at a time works on the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def all(self) -> dict[str, Wanted]:
        """What shall run, by name. Raises TaoembError when the file can't be read."""
        try:
            tree = json.loads(self._file.read_text(encoding="utf-8"))
            return {one["name"]: Wanted(**one | {"command": tuple(one["command"])}) for one in tree}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TaoembError(f"{self._file}: can't be read ({error}); remove it and stop its processes") from None

    def add(self, wanted: Wanted) -> None:
        """From now on it shall run; one of that name stays as it is. Starts nothing yet."""
        every = self.all()
        if wanted.name not in every:
            self._write(every | {wanted.name: wanted})

    def remove(self, *names: str) -> None:
        """End these processes (SIGTERM, SIGKILL after STOP_S) and forget them."""
        every = self.all()
        known = [every[name] for name in names if name in every]
        running = [process for one in known if (process := _find(one) or _orphan(one.command)) is not None]
        for process in running:
            _signal(process.terminate)
        _, stubborn = psutil.wait_procs(running, timeout=STOP_S)
        for process in stubborn:
            _signal(process.kill)
        self._write({name: one for name, one in every.items() if name not in names})

    def keep_running(self) -> None:
        """Start what shall run and doesn't; what ends again and again is started more and more rarely."""
        every = self.all()
        for name, wanted in every.items():
            if _find(wanted) is None and time.time() >= _due(wanted):
                every[name] = self._started(wanted)
                self._write(every)

    def last_words(self, name: str) -> str:
        """The last line of its log."""
        try:
            text = self._log(name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def _started(self, wanted: Wanted) -> Wanted:
        now = time.time()
        lived = now - wanted.started_at
        deaths = 0 if not wanted.pid or lived > SETTLED_S else wanted.deaths + 1
        process = _orphan(wanted.command) or self._start(wanted)
        return replace(wanted, pid=process.pid, created=process.create_time(), started_at=now, deaths=deaths)

    def _start(self, wanted: Wanted) -> psutil.Process:
        log = self._log(wanted.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                wanted.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return psutil.Process(child.pid)

    def _write(self, every: dict[str, Wanted]) -> None:
        partial = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        partial.write_text(json.dumps([dataclasses.asdict(one) for one in every.values()], indent=2), encoding="utf-8")
        os.replace(partial, self._file)


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _due(wanted: Wanted) -> float:
    pause = min(LONGEST_PAUSE_S, 2.0 ** (wanted.deaths - 1)) if wanted.deaths else 0.0
    return wanted.started_at + pause


def _find(wanted: Wanted) -> psutil.Process | None:
    """The living process that was started for it; a dead child of ours is buried on the way."""
    if not wanted.pid:
        return None
    try:
        process = psutil.Process(wanted.pid)
        if abs(process.create_time() - wanted.created) > 1:
            return None
        if process.status() == psutil.STATUS_ZOMBIE:
            _bury(process)
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def _bury(process: psutil.Process) -> None:
    with suppress(psutil.Error):  # another process's child
        process.wait(0)


def _orphan(command: tuple[str, ...]) -> psutil.Process | None:
    """A process that was started and never written down."""
    wanted = list(command)
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["cmdline"] == wanted and process.info["status"] != psutil.STATUS_ZOMBIE:
            return process
    return None


def _signal(send: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):  # it ended by itself
        send()
