"""Records pages and events off the request path; a slow or dead database never reaches a search.

A row is appended to the spool before the caller goes on (some tens of microseconds, no waiting for a disk). A thread
carries the spool into the database. So a row that was taken outlives this process, and there is one way in for all
rows: fresh ones, ones that waited for the database, ones that a killed process left.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Self

from prometheus_client import REGISTRY, CollectorRegistry

from taoemb.config import EventsConfig
from taoemb.errors import TaoembError
from taoemb.serving.events.database import database_url
from taoemb.serving.events.recorder_metrics import recorder_metrics
from taoemb.serving.events.shipping import Entry, Shipper, encode
from taoemb.serving.events.spool import Spool, take

_LONGEST_PAUSE_S = 5.0  # between two tries of a database that is away; also the age at which a segment is synced
_log = logging.getLogger(__name__)


class Recorder:
    """Takes rows from the gateway. `page` and `event` may be called from any thread; they never block and never raise.

    Raises InputError when the URL can't be used or the spool can't be written; a database that is away is no error.
    """

    def __init__(self, config: EventsConfig, registry: CollectorRegistry = REGISTRY) -> None:
        self._config = config
        self._metrics = recorder_metrics(registry)
        self._spool = Spool(config.spool, 1e6 * config.spool_mb)
        rejected = config.spool / "rejected" / f"{self._spool.owner}.jsonl"
        self._shipper = Shipper(database_url(config), config.timeout_s, rejected, self._metrics)
        self._memory: deque[Entry] = deque()
        self._full = False
        self._away = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def page(self, row: Mapping[str, Any]) -> None:
        """Record a served page: the columns of `tables.pages` but `number`."""
        self._record(Entry("pages", row))

    def event(self, row: Mapping[str, Any]) -> None:
        """Record what a shopper did: the columns of `tables.events` but `number`."""
        self._record(Entry("events", row))

    def close(self) -> None:
        """Write what waits when the database answers within `events.timeout_s`; else it stays in the spool."""
        self._closing.set()
        self._thread.join(self._config.timeout_s)
        self._spool.seal()
        for entry in tuple(self._memory):
            self._metrics.lost.labels(entry.table).inc()

    def _record(self, entry: Entry) -> None:
        self._metrics.recorded.labels(entry.table).inc()
        try:
            line = encode(entry)
        except (TypeError, ValueError, RecursionError) as error:
            self._shipper.reject(entry.table, repr(entry.row), str(error))
            return
        try:
            self._spool.append(line)
        except OSError as error:
            self._remember(entry, error)
        else:
            self._full = False

    def _remember(self, entry: Entry, error: OSError) -> None:
        """The disk is full or broken: memory holds the row until the database has it."""
        if len(self._memory) < self._config.queue:
            self._memory.append(Entry(entry.table, dict(entry.row)))
            return
        self._metrics.lost.labels(entry.table).inc()
        if not self._full:
            _log.error("events.spool %s: %s; rows are lost until it can be written", self._config.spool, error)
        self._full = True

    def _run(self) -> None:
        pause = self._config.flush_s
        while True:
            closing = self._closing.wait(pause)
            try:
                self._ship()
            except (TaoembError, OSError) as error:
                if not self._away:
                    _log.warning("%s; rows wait in %s", error, self._config.spool)
                self._away = True
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                self._away = False
                pause = self._config.flush_s
            self._metrics.away.set(self._away)
            self._metrics.lag.set(self._spool.lag_s(time.time()))
            if closing:
                self._shipper.close()
                return

    def _ship(self) -> None:
        """Carry everything that waits into the database, the oldest first."""
        self._spool.seal(sync=self._away)
        while self._memory:
            entries = list(islice(self._memory, self._config.batch))
            self._shipper.ship(entries)
            for _ in entries:
                self._memory.popleft()
        for path in self._spool.waiting():
            with take(path) as segment:
                if segment is not None:
                    late = self._away or not segment.belongs_to(self._spool)
                    self._shipper.ship_lines(segment.lines, self._config.batch, replayed=late)
                    path.unlink()
