"""Writes pages and events once: repeating a row changes nothing, so that whoever is unsure writes it again."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Insert, Table, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from taoemb.serving.events.tables import events, pages, units

_LOCK = 0x74616F6572  # of PostgreSQL's advisory locks: whoever gives out numbers


def insert_pages(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write pages, and enrol the units that are new to their rollout, within the caller's transaction.

    A forced page enrols nobody, nor does one from before the candidate got a share: chance chose neither's arm.
    `rows` are mappings of the columns of `tables.pages` without `number`. The connection must have been opened with
    `database.WRITES`.
    """
    if not rows:
        return
    arrived = clock_now(connection)
    numbered = [{"arrived": arrived} | row for row in _number(connection, pages, rows)]
    connection.execute(insert_once(connection, pages), numbered)
    enrolled = [
        {name: row[name] for name in ("rollout", "unit", "request_id", "number")}
        for row in numbered
        if row["rollout"] and not row["forced"] and row["percent"] > 0
    ]
    if enrolled:
        connection.execute(insert_once(connection, units), enrolled)


def insert_events(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write shoppers' events within the caller's transaction; as :func:`insert_pages`."""
    if rows:
        connection.execute(insert_once(connection, events), _number(connection, events, rows))


def hold_numbers(connection: Connection) -> None:
    """Let nobody give out numbers until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def insert_once(connection: Connection, table: Table) -> Insert:
    """INSERT that leaves a row alone which is there already, by primary key."""
    build = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return build(table).on_conflict_do_nothing(index_elements=list(table.primary_key.columns))


def _number(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their numbers. Transactions that give out numbers run one after another, so none commits late."""
    hold_numbers(connection)
    last = connection.execute(select(func.max(table.c.number))).scalar_one() or 0
    return [dict(row) | {"number": last + place} for place, row in enumerate(rows, start=1)]


def clock_now(connection: Connection) -> float:
    """Unix seconds by the database's clock."""
    postgres = connection.dialect.name == "postgresql"
    now = "extract(epoch FROM clock_timestamp())" if postgres else "(julianday('now') - 2440587.5) * 86400.0"
    return float(connection.execute(text(f"SELECT {now}")).scalar_one())
