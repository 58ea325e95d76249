"""Deletes old pages with everything that hangs on them; what a rollout may still be measured on stays whole."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Exists, delete, exists, func, select

from taoemb.config import EventsConfig
from taoemb.serving.events.database import database_url, open_engine, reading, writing
from taoemb.serving.events.migrate import upgrade
from taoemb.serving.events.tables import closings, events, grades, pages, units

_WINDOW = 1000  # pages or events in one transaction


@dataclass(frozen=True)
class Pruned:
    """How many rows went."""

    pages: int
    events: int


def prune(config: EventsConfig, older_than_days: float) -> Pruned:
    """Delete pages served earlier than that, with their events and grades, and old events of pages that never came.

    A rollout goes as a whole, once its last page is old enough: without a unit's first page a later one would be
    measured in its place. Rollouts and decisions stay for audit. The newest page and event always stay, so that numbers
    only grow. Can be stopped at any point. Raises TaoembError when the database is away.
    """
    before = time.time() - 86400 * older_than_days
    engine = open_engine(database_url(config), timeout_s=config.timeout_s)
    try:
        upgrade(engine)
        gone = [_prune_rollout(engine, name, before) for name in _rollouts_that_are_over(engine, before)]
        gone.append(_prune_rollout(engine, "", before))
        orphans = _prune_orphans(engine, before)
    finally:
        engine.dispose()
    return Pruned(sum(one.pages for one in gone), sum(one.events for one in gone) + orphans)


def _rollouts_that_are_over(engine: Engine, before: float) -> Sequence[str]:
    last = func.max(pages.c.at)
    with reading(engine) as connection:
        query = select(pages.c.rollout).where(pages.c.rollout != "").group_by(pages.c.rollout).having(last < before)
        return connection.scalars(query).all()


def _prune_rollout(engine: Engine, rollout: str, before: float) -> Pruned:
    newest = select(func.max(pages.c.number)).scalar_subquery()
    old = select(pages.c.request_id).where(pages.c.rollout == rollout, pages.c.at < before, pages.c.number != newest)
    gone = Pruned(0, 0)
    while True:
        with writing(engine) as connection:
            ids = connection.scalars(old.order_by(pages.c.number).limit(_WINDOW)).all()
            if not ids:
                connection.execute(delete(closings).where(closings.c.rollout == rollout, ~_has_pages(rollout)))
                return gone
            part = _delete_pages(connection, rollout, ids)
        gone = Pruned(gone.pages + part.pages, gone.events + part.events)


def _has_pages(rollout: str) -> Exists:
    return exists().where(pages.c.rollout == rollout)


def _delete_pages(connection: Connection, rollout: str, ids: Sequence[str]) -> Pruned:
    newest = select(func.max(events.c.number)).scalar_subquery()
    happened = connection.execute(delete(events).where(events.c.request_id.in_(ids), events.c.number != newest))
    connection.execute(delete(grades).where(grades.c.request_id.in_(ids)))
    connection.execute(delete(units).where(units.c.rollout == rollout, units.c.request_id.in_(ids)))
    connection.execute(delete(pages).where(pages.c.request_id.in_(ids)))
    return Pruned(len(ids), happened.rowcount)


def _prune_orphans(engine: Engine, before: float) -> int:
    newest = select(func.max(events.c.number)).scalar_subquery()
    with_page = exists().where(pages.c.request_id == events.c.request_id)
    old = select(events.c.event_id).where(events.c.at < before, ~with_page, events.c.number != newest)
    gone = 0
    while True:
        with writing(engine) as connection:
            ids = connection.scalars(old.limit(_WINDOW)).all()
            if not ids:
                return gone
            connection.execute(delete(events).where(events.c.event_id.in_(ids)))
        gone += len(ids)
