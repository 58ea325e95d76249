"""Judgments that outlive a run: an SQLite file keyed by content, shared by all who judge.

The key is a digest of (judge release, prompt template, query, item text), so a change of any of them is another entry.
Several processes and threads may read and write one file at once.
"""

import hashlib
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from taoemb.errors import InputError
from taoemb.judge.answers import Probs
from taoemb.judge.failures import CacheFailure

_LOOKUP = 500  # keys in one SELECT (SQLite's oldest limit on parameters is 999)
_BUSY_S = 60.0
_RETRY_S = 0.02
_PACK = struct.Struct("<4f")
_SCHEMA = "CREATE TABLE IF NOT EXISTS judgments (key BLOB PRIMARY KEY, probs BLOB NOT NULL) WITHOUT ROWID"


def key_maker(release: str, template: str) -> Callable[[str, str], bytes]:
    """A function (query, item text) → key (32 bytes) for one judge and one prompt template."""
    base = hashlib.sha256(f"{len(release)}:{release}{len(template)}:{template}".encode())

    def key(query: str, item: str) -> bytes:
        digest = base.copy()
        digest.update(f"{len(query)}:{query}{item}".encode())
        return digest.digest()

    return key


class JudgmentCache:
    """Grade probabilities by key, in the file at `path` (made when missing).

    Raises InputError when the file is not such a cache, CacheFailure when it can't be used later on (e.g. a full disk).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._let_readers_and_a_writer_work_at_once()
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_SCHEMA)
            self._db.execute("SELECT key, probs FROM judgments LIMIT 1").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"judge.cache {path}: {error}; delete the file or name another one") from None

    def _let_readers_and_a_writer_work_at_once(self) -> None:
        """Turn SQLite's write-ahead log on, which fails at once while another process does the same."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_S)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Probs]:
        """The judgments that are known among `keys`."""
        found: dict[bytes, Probs] = {}
        with self._lock:
            for start in range(0, len(keys), _LOOKUP):
                part = keys[start : start + _LOOKUP]
                marks = ",".join("?" * len(part))
                for key, packed in self._run(f"SELECT key, probs FROM judgments WHERE key IN ({marks})", part):
                    if len(packed) == _PACK.size:
                        found[key] = _PACK.unpack(packed)
        return found

    def put(self, judgments: Iterable[tuple[bytes, Probs]]) -> None:
        """Keep `judgments` in one transaction; the first one of a key stays."""
        rows = [(key, _PACK.pack(*probs)) for key, probs in judgments]
        with self._lock:
            self._run("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR IGNORE INTO judgments VALUES (?, ?)", rows)
            except sqlite3.Error as error:
                self._db.execute("ROLLBACK")
                raise self._failure(error) from None
            self._run("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _run(self, statement: str, values: Sequence[bytes] = ()) -> list:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: sqlite3.Error) -> CacheFailure:
        return CacheFailure(f"judge.cache {self.path}: {error}; free the disk or name another file")
