"""The traffic that the gateway obeys now: read again and again, replaced whole, kept when it can't be read."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from taoemb.config import KServeConfig
from taoemb.errors import InputError, TaoembError
from taoemb.serving.traffic import Traffic, read_traffic

_KSERVE = re.compile(r"kserve://([a-z0-9.-]+)/([a-z0-9.-]+)")
ASK_AGAIN_S = 0.2  # failing searches ask for a fresh look; a cluster's API is not asked more often than this
_log = logging.getLogger(__name__)


class TrafficWatch:
    """Follows a source: a file, or `kserve://NAMESPACE/INFERENCESERVICE`."""

    def __init__(
        self,
        source: str,
        poll_s: float,
        on_change: Callable[[Traffic], None] = lambda traffic: None,
        kserve: KServeConfig | None = None,
    ) -> None:
        """`on_change` is called with each new value; `kserve` says where an InferenceService's encoders answer."""
        self.source, self._poll_s, self._on_change = source, poll_s, on_change
        self._read = _reader(source, kserve)
        self._traffic: Traffic | None = None
        self._polling: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._looked_at = 0.0
        self.read_at = 0.0
        """Unix seconds of the last successful look."""
        self.on_read: Callable[[float], None] = lambda at: None
        """Called with the time of each successful look."""
        self.problem = "not read yet"
        """Why the last look failed; empty when it did not."""

    @property
    def current(self) -> Traffic | None:
        """The last value that could be read."""
        return self._traffic

    async def start(self) -> None:
        """Take a first look, then poll."""
        await self.refresh()
        self._polling = asyncio.create_task(self._poll())

    def stop(self) -> None:
        """Stop polling."""
        if self._polling is not None:
            self._polling.cancel()

    async def refresh(self) -> None:
        """Look now, unless somebody just did."""
        async with self._looking:
            if time.monotonic() - self._looked_at < ASK_AGAIN_S:
                return
            try:
                traffic = await asyncio.to_thread(self._read)
            except TaoembError as error:
                if str(error) != self.problem:
                    _log.warning("%s", error)
                self.problem = str(error)
            else:
                self.problem, self.read_at = "", time.time()
                self.on_read(self.read_at)
                if traffic != self._traffic:
                    self._traffic = traffic
                    self._on_change(traffic)
            self._looked_at = time.monotonic()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()


def check_source(source: str) -> None:
    """Raises InputError when the source can never work: a malformed name, a missing or malformed file."""
    read = _reader(source)
    if not source.startswith("kserve:"):
        read()


def _reader(source: str, kserve: KServeConfig | None = None) -> Callable[[], Traffic]:
    if not source.startswith("kserve:"):
        return _FileReader(Path(source)).read
    found = _KSERVE.fullmatch(source)
    if found is None:
        raise InputError(f"gateway.traffic {source!r}: expected a file, or kserve://NAMESPACE/INFERENCESERVICE")
    namespace, name = found.groups()

    def read() -> Traffic:
        from taoemb.serving.traffic_kserve import kserve_traffic

        return kserve_traffic(namespace, name, kserve)

    return read


class _FileReader:
    """Reads the file when it is another one than last time (write_traffic replaces it, a mounted one changes inode)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._traffic: Traffic | None = None

    def read(self) -> Traffic:
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise InputError(f"{self._path}: {error.strerror}; `taoemb rollout start` writes it") from None
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._traffic is None or seen != self._seen:
            self._traffic, self._seen = read_traffic(self._path), seen
        return self._traffic
