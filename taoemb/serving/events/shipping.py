"""Carries spooled rows into the database, and puts aside the ones it refuses for their content."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Table
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from taoemb.serving.events.database import WRITES, answered_within, database_failure, open_engine
from taoemb.serving.events.insert import insert_events, insert_pages
from taoemb.serving.events.migrate import upgrade
from taoemb.serving.events.recorder_metrics import RecorderMetrics
from taoemb.serving.events.row_check import problem
from taoemb.serving.events.tables import events, pages

TABLES: Mapping[str, Table] = {table.name: table for table in (pages, events)}
_STATEMENT_ROWS = 50  # so that the interpreter is free for a search again after a millisecond
_REJECTED_BYTES = 64 * 2**20  # rejected rows kept a process; beyond, they are counted only


class Entry(NamedTuple):
    """One row and the table it goes to."""

    table: str
    row: Mapping[str, Any]


def encode(entry: Entry) -> bytes:
    """As a line. Raises TypeError, ValueError or RecursionError for what JSON can't hold."""
    return json.dumps([entry.table, dict(entry.row)], separators=(",", ":")).encode() + b"\n"


class Shipper:
    """Writes entries to one database. Belongs to one thread."""

    def __init__(self, url: str, timeout_s: float, rejected: Path, metrics: RecorderMetrics) -> None:
        self._engine = open_engine(url, timeout_s=timeout_s, statement_timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self._migrated = False
        self._rejected, self._metrics = rejected, metrics

    def ship_lines(self, lines: Sequence[bytes], batch: int, *, replayed: bool) -> None:
        """Write the lines of a segment, `batch` rows a transaction. Raises TaoembError while the database is away."""
        for start in range(0, len(lines), batch):
            entries = [entry for line in lines[start : start + batch] if (entry := self._decode(line)) is not None]
            self.ship(entries, replayed=replayed)

    def ship(self, entries: Sequence[Entry], *, replayed: bool = False) -> None:
        """Write entries in one transaction; what can't be written is put aside. Raises TaoembError as above."""
        good = []
        for entry in entries:
            reason = problem(TABLES[entry.table], entry.row)
            if reason is None:
                good.append(entry)
            else:
                self.reject(entry.table, entry.row, reason)
        self._write(good, replayed)

    def reject(self, table: str, row: Any, reason: str) -> None:
        """Keep a row that can't be written beside its reason, as far as there is room."""
        self._metrics.rejected.labels(table).inc()
        line = json.dumps({"at": time.time(), "table": table, "reason": reason, "row": row}) + "\n"
        try:
            self._rejected.parent.mkdir(exist_ok=True)
            with self._rejected.open("a", encoding="utf-8") as out:
                if out.tell() < _REJECTED_BYTES:
                    out.write(line)
        except OSError:
            return  # counted above; a full disk must not stop the rows that are good

    def close(self) -> None:
        """Give the connection back."""
        self._engine.dispose()

    def _decode(self, line: bytes) -> Entry | None:
        try:
            table, row = json.loads(line)
            if table in TABLES and isinstance(row, dict):
                return Entry(table, row)
        except (ValueError, TypeError, RecursionError):
            pass
        self.reject("unknown", line.decode(errors="replace"), "not a line of a spool")
        return None

    def _write(self, entries: Sequence[Entry], replayed: bool) -> None:
        """Halves entries until the row that the database refuses stands alone."""
        if not entries:
            return
        try:
            self._transact(entries)
        except StatementError as error:
            if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
                raise database_failure(self._engine, error) from None
            if len(entries) == 1:
                self.reject(*entries[0], reason=str(error.orig).strip())
                return
            middle = len(entries) // 2
            self._write(entries[:middle], replayed)
            self._write(entries[middle:], replayed)
        except SQLAlchemyError as error:
            raise database_failure(self._engine, error) from None
        else:
            for entry in entries:
                self._metrics.written.labels(entry.table).inc()
                if replayed:
                    self._metrics.replayed.labels(entry.table).inc()

    def _transact(self, entries: Sequence[Entry]) -> None:
        if not self._migrated:
            upgrade(self._engine)
            self._migrated = True
        with self._engine.connect().execution_options(**WRITES) as connection, connection.begin() as transaction:
            for name, insert in (("pages", insert_pages), ("events", insert_events)):
                rows = [_columns(entry) for entry in entries if entry.table == name]
                for start in range(0, len(rows), _STATEMENT_ROWS):
                    with answered_within(connection, self._timeout_s):
                        insert(connection, rows[start : start + _STATEMENT_ROWS])
            with answered_within(connection, self._timeout_s):
                transaction.commit()


def _columns(entry: Entry) -> dict[str, Any]:
    """The row with every column of its table; what may be missing as None."""
    return {column.name: entry.row.get(column.name) for column in TABLES[entry.table].c if column.name != "number"}
