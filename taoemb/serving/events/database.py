"""Opens the events database, the same way for whoever writes and whoever reads: SQLite or PostgreSQL."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from taoemb.config import EventsConfig
from taoemb.errors import InputError, TaoembError

WRITES = {"taoemb_writes": True}
"""Execution options of a connection that is going to write: SQLite then takes the write lock when it begins.

A transaction that reads first and writes later can't wait for another writer: SQLite refuses it at once.
"""


def database_url(config: EventsConfig) -> str:
    """The URL of the events database: from `events.url_file` when set, else `events.url`. Raises InputError."""
    if config.url_file is None:
        return config.url
    try:
        url = config.url_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"events.url_file {config.url_file}: {error.strerror or error}") from None
    if not url:
        raise InputError(f"events.url_file {config.url_file}: empty; write a SQLAlchemy URL into it")
    return url


def open_engine(url: str, *, timeout_s: float, statement_timeout_s: float | None = None) -> Engine:
    """An engine for `url`; connects at its first use.

    `timeout_s` bounds connecting, silence on the network and waiting for SQLite's lock; `statement_timeout_s` one
    statement and one idle transaction on PostgreSQL. Raises InputError for a URL that nothing here can open.
    """
    parsed = _parsed(url)
    shown = shown_url(parsed)
    try:
        if parsed.get_backend_name() == "sqlite":
            return _open_sqlite(parsed, timeout_s)
        if parsed.get_backend_name() == "postgresql":
            arguments = _postgres_arguments(timeout_s, statement_timeout_s)
            parsed = parsed.set(drivername="postgresql+psycopg")
            asks_first = statement_timeout_s is None  # who has a limit tries again by itself
            return create_engine(parsed, connect_args=arguments, pool_pre_ping=asks_first, pool_timeout=timeout_s)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise InputError(f"events.url {shown}: {error}; use postgresql+psycopg://…") from None
    raise InputError(f"events.url {shown}: use sqlite:///FILE or postgresql+psycopg://…")


def shown_url(url: URL) -> str:
    """A database's URL as messages may show it: without any password, and without the query, which may hold one."""
    return url.set(query={}).render_as_string(hide_password=True)


def _parsed(url: str) -> URL:
    """Raises InputError, which shows nothing of it: where a URL can't be read, a password may be anywhere."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError("events.url: not a SQLAlchemy URL such as sqlite:///events.db") from None
    if "@" in (parsed.host or "") or ("@" in (parsed.database or "") and parsed.get_backend_name() != "sqlite"):
        raise InputError("events.url: in its user and password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23")
    return parsed


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A short transaction that reads. Raises TaoembError when the database does not answer."""
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except SQLAlchemyError as error:
        raise database_failure(engine, error) from None


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes. Raises TaoembError when the database does not answer or refuses."""
    try:
        with engine.connect().execution_options(**WRITES) as connection, connection.begin():
            yield connection
    except SQLAlchemyError as error:
        raise database_failure(engine, error) from None


@contextmanager
def answered_within(connection: Connection, seconds: float) -> Iterator[None]:
    """Hang up on a PostgreSQL server that says nothing for so long; its own time-outs end with it when it hangs."""
    driver = connection.connection.dbapi_connection
    if connection.dialect.name != "postgresql" or driver is None:
        yield
        return
    timer = threading.Timer(seconds, _hang_up, [driver])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(driver: Any) -> None:
    if not driver.closed:
        with socket.socket(fileno=os.dup(driver.fileno())) as line, suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)


def database_failure(engine: Engine, error: SQLAlchemyError) -> TaoembError:
    """The one-line form of what a database answered."""
    shown = shown_url(engine.url)
    lines = str(error.__cause__ or error).strip().splitlines()
    return TaoembError(f"events database {shown}: {lines[0] if lines else type(error).__name__}; see that it runs")


def _postgres_arguments(timeout_s: float, statement_timeout_s: float | None) -> dict[str, Any]:
    """libpq's parameters; https://www.postgresql.org/docs/current/libpq-connect.html."""
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, round(timeout_s)),  # libpq takes whole seconds and no fewer than 2
        "tcp_user_timeout": round(1000 * timeout_s),
        "keepalives_idle": max(1, round(timeout_s)),
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "application_name": "taoemb",
    }
    if statement_timeout_s is not None:
        limit = round(1000 * statement_timeout_s)
        arguments["options"] = f"-c statement_timeout={limit} -c idle_in_transaction_session_timeout={limit}"
    return arguments


def _open_sqlite(url: URL, timeout_s: float) -> Engine:
    file, shown = url.database, shown_url(url)
    if url.host or url.username:
        raise InputError(f"events.url {shown}: a file has three slashes, sqlite:///events.db")
    if not file or file == ":memory:":
        raise InputError(
            f"events.url {shown_url(url)}: name a file, e.g. sqlite:///events.db; several processes share it"
        )
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"events.url {shown_url(url)}: {error.strerror or error}; name a folder that can be written"
        ) from None
    engine = create_engine(url, connect_args={"timeout": timeout_s})

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("taoemb_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
