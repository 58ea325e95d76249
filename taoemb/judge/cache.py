"""Judgments that outlive a run: an SQLite file keyed by content, shared by all who judge.

The key is a digest of (judge release, prompt template, query, item text), so a change of any of them is another entry.
Several processes and threads may read and write one file at once. An entry without the labels' mass, as older files
have them, can't be told from a grade made of noise: it counts as unknown, and the next answer takes its place.
"""

import hashlib
import math
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from taoemb.errors import InputError
from taoemb.judge.answers import MIN_MASS, Judgment
from taoemb.judge.failures import CacheFailure

_LOOKUP = 500  # keys in one SELECT (SQLite's oldest limit on parameters is 999)
_BUSY_S = 60.0
_RETRY_S = 0.02
_PACK = struct.Struct("<4fd")  # the grades' probabilities, the labels' mass
_TABLE = "judgments"
_SCHEMA = f"CREATE TABLE IF NOT EXISTS {_TABLE} (key BLOB PRIMARY KEY, probs BLOB NOT NULL) WITHOUT ROWID"
_INSERT = (  # the first usable one of a key stays
    f"INSERT INTO {_TABLE} VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET probs = excluded.probs "
    "WHERE label_mass(probs) < ?"
)
_DAMAGED = "delete the file or name another one"
_LOCKED = "another process keeps it locked: end that one, or name another file"
_NOT_OURS = "make file and folder writable, or name another file"
_REMEDIES = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: "free the disk or name another file",
    sqlite3.SQLITE_IOERR: "look at the disk or name another file",
    sqlite3.SQLITE_READONLY: _NOT_OURS,
    sqlite3.SQLITE_PERM: _NOT_OURS,
    sqlite3.SQLITE_CANTOPEN: _NOT_OURS,
}


def key_maker(release: str, template: str) -> Callable[[str, str], bytes]:
    """A function (query, item text) → key (32 bytes) for one judge and one prompt template."""
    base = hashlib.sha256(f"{len(release)}:{release}{len(template)}:{template}".encode())

    def key(query: str, item: str) -> bytes:
        digest = base.copy()
        digest.update(f"{len(query)}:{query}{item}".encode())
        return digest.digest()

    return key


class JudgmentCache:
    """Judgments by key, in the file at `path` (made when missing); those with less than `min_mass` are not known.

    Raises InputError when the file is not such a cache or can't be written, CacheFailure when it can't be used later
    on (e.g. a full disk).
    """

    def __init__(self, path: Path, min_mass: float = MIN_MASS) -> None:
        self.path, self._min_mass = path, min_mass
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except (sqlite3.Error, InputError):
                self._db.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"judge.cache {path}: {error}; {_remedy(error)}") from None

    def _open(self) -> None:
        """Make sure that this is such a cache and can be written, before a judgment is paid for."""
        self._let_readers_and_a_writer_work_at_once()
        self._db.create_function("label_mass", 1, _stored_mass, deterministic=True)
        self._db.execute("PRAGMA synchronous=NORMAL")
        names = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        others = sorted(name for name in names if name != _TABLE and not name.startswith("sqlite_"))
        if others:
            raise InputError(
                f"judge.cache {self.path}: a database of something else (it has the table {others[0]!r}); name another "
                "file"
            )
        self._db.execute(_SCHEMA)
        self._db.execute(f"SELECT key, probs FROM {_TABLE} LIMIT 1").fetchone()
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("ROLLBACK")

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

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Judgment]:
        """The judgments that are known among `keys`."""
        found: dict[bytes, Judgment] = {}
        with self._lock:
            for start in range(0, len(keys), _LOOKUP):
                part = keys[start : start + _LOOKUP]
                marks = ",".join("?" * len(part))
                for key, packed in self._run(f"SELECT key, probs FROM {_TABLE} WHERE key IN ({marks})", part):
                    if _stored_mass(packed) >= self._min_mass:
                        *probs, mass = _PACK.unpack(packed)
                        found[key] = Judgment(tuple(probs), mass)
        return found

    def put(self, judgments: Iterable[tuple[bytes, Judgment]]) -> None:
        """Keep `judgments` in one transaction; the first one of a key stays, unless its mass is below `min_mass`."""
        rows = [(key, _PACK.pack(*one.probs, one.mass), self._min_mass) for key, one in judgments]
        with self._lock:
            self._run("BEGIN IMMEDIATE")
            try:
                self._db.executemany(_INSERT, rows)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise self._failure(error, f"{len(rows)} judgments could not be kept") from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _run(self, statement: str, values: Sequence[bytes] = ()) -> list:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: sqlite3.Error, lost: str = "") -> CacheFailure:
        what = f"{error}, {lost}" if lost else str(error)
        return CacheFailure(f"judge.cache {self.path}: {what}; {_remedy(error)}")


def _stored_mass(packed: object) -> float:
    """The mass of a stored judgment; −1 when it is none, or damaged, or an older one whose mass nobody knows."""
    if not isinstance(packed, bytes) or len(packed) != _PACK.size:
        return -1.0
    *probs, mass = _PACK.unpack(packed)
    proper = all(0 <= p <= 1 for p in probs) and math.isclose(sum(probs), 1, abs_tol=1e-3) and 0 < mass <= 1
    return mass if proper else -1.0


def _remedy(error: Exception) -> str:
    if not isinstance(error, sqlite3.Error):
        return _NOT_OURS
    code = vars(error).get("sqlite_errorcode", 0)  # the extended code; its low byte is the kind
    return _REMEDIES.get(code & 0xFF, _DAMAGED)
