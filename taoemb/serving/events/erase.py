"""Erases what is kept of one user: a right that people have, whatever a rollout would like to keep.

Nothing is rewritten to look as if it had never been: a measurement that is taken again afterwards lacks these pages.
"""

import time
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, select, update

from taoemb.config import EventsConfig
from taoemb.serving.events.database import database_url, open_engine, reading, writing
from taoemb.serving.events.migrate import upgrade
from taoemb.serving.events.prune import Pruned
from taoemb.serving.events.tables import events, grades, pages, units

ERASED = "erased"
"""Stands for the user on a row that can't go because numbers must only grow."""
_WINDOW = 500  # pages in one transaction


def erase(config: EventsConfig, user: str) -> Pruned:
    """Delete all pages of a user or session with their events and grades, and say how many rows there were.

    The newest page and the newest event of the database stay, emptied of everything that tells of the user, because
    numbers only grow. Can be repeated, and stopped at any point. Rows that are still in a gateway's spool are written
    later; repeat it then. Raises TaoembError when the database is away.
    """
    engine = open_engine(database_url(config), timeout_s=config.timeout_s)
    erased = Pruned(0, 0)
    try:
        upgrade(engine)
        while True:
            with reading(engine) as connection:
                ids = connection.scalars(select(pages.c.request_id).where(pages.c.unit == user).limit(_WINDOW)).all()
            if not ids:
                break
            with writing(engine) as connection:
                part = _erase_pages(connection, ids)
            erased = Pruned(erased.pages + part.pages, erased.events + part.events)
        with writing(engine) as connection:
            connection.execute(delete(units).where(units.c.unit == user))
    finally:
        engine.dispose()
    return erased


def _erase_pages(connection: Connection, ids: Sequence[str]) -> Pruned:
    last_event = connection.execute(select(func.max(events.c.number))).scalar_one()
    last_page = connection.execute(select(func.max(pages.c.number))).scalar_one()
    name = f"{ERASED}-{time.time_ns():x}"
    emptied = {"event_id": name, "request_id": ERASED, "item_id": None, "position": None, "value": None}
    mine = events.c.request_id.in_(ids)
    kept = connection.execute(update(events).where(mine, events.c.number == last_event).values(emptied))
    gone = connection.execute(delete(events).where(mine))
    connection.execute(delete(grades).where(grades.c.request_id.in_(ids)))
    connection.execute(delete(units).where(units.c.request_id.in_(ids)))
    blank = {"unit": ERASED, "query": "", "filter": "", "items": [], "forced": True, "rollout": "", "request_id": name}
    blanked = pages.c.request_id.in_(ids) & (pages.c.number == last_page)
    connection.execute(update(pages).where(blanked).values(blank))
    connection.execute(delete(pages).where(pages.c.request_id.in_(ids)))
    return Pruned(len(ids), kept.rowcount + gone.rowcount)
