"""Brings an events database to the tables of this version; safe when many processes start at once."""

import time
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from taoemb.errors import TaoembError
from taoemb.serving.events.database import WRITES, database_failure, open_engine, shown_url

_LOCK = 0x74616F656D62  # "taoemb", of PostgreSQL's advisory locks
_WAIT_S = 60.0


def migrate(url: str) -> str:
    """Upgrade the database at `url` to head, making its tables when it is empty; the revision it stands at then.

    One process migrates, the others wait. Raises InputError for a URL that can't be used, TaoembError when the
    database is away, refuses, or was made by a newer version.
    """
    engine = open_engine(url, timeout_s=_WAIT_S)
    try:
        return upgrade(engine)
    finally:
        engine.dispose()


def upgrade(engine: Engine) -> str:
    """:func:`migrate` on an open engine."""
    shown = shown_url(engine.url)
    try:
        if engine.dialect.name == "sqlite":
            _use_write_ahead_log(engine)
        with engine.connect().execution_options(**WRITES) as connection, connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL statement_timeout = 0"))  # a large table takes its time
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            return _to_head(connection)
    except CommandError as error:
        raise TaoembError(f"events database {shown}: {error}; a newer taoemb made it: upgrade this one") from None
    except SQLAlchemyError as error:
        raise database_failure(engine, error) from None


def alembic_config(connection: Connection) -> AlembicConfig:
    """Alembic's configuration for the packaged migrations over an open connection."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _to_head(connection: Connection) -> str:
    command.upgrade(alembic_config(connection), "head")
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()


def _use_write_ahead_log(engine: Engine) -> None:
    """Readers then never wait for the writer. The switch is kept in the file; it can't wait for locks by itself."""
    until = time.monotonic() + _WAIT_S
    while True:
        connection = engine.raw_connection()
        try:
            mode = connection.cursor().execute("PRAGMA journal_mode").fetchone()[0]
            if mode == "wal":
                return
            connection.cursor().execute("PRAGMA journal_mode=WAL")
        except engine.dialect.loaded_dbapi.Error as error:
            if time.monotonic() > until or "locked" not in str(error):
                raise OperationalError("PRAGMA journal_mode", {}, error) from error
            time.sleep(0.02)
        finally:
            connection.close()
