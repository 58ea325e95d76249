"""Closes pages: from then on the same events count for them, whoever measures, and however late others come.

An event that is on its way when its page closes would otherwise change a value that a verdict was reached on, or count
for one controller and not for another. What is kept is one row a look: up to which page, and up to which event.
"""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Engine, func, insert, select

from taoemb.serving.events.database import reading, writing
from taoemb.serving.events.insert import hold_numbers
from taoemb.serving.events.rows import Closing, Outcome
from taoemb.serving.events.tables import closings, events, pages, units

_WINDOW = 5000  # units in one transaction
_CLOSING = [closings.c[name] for name in Closing._fields]


def close_pages(engine: Engine, rollout: str, pages_to: int, after: int = 0) -> list[Closing]:
    """Close a rollout's pages up to this number, unless somebody did; all closings of pages above `after`, in order.

    A page that is closed stays so, with the events that were there. Raises TaoembError when the database is away.
    """
    found = _closings(engine, rollout, after)
    if pages_to <= (found[-1].pages_to if found else after):
        return found
    with writing(engine) as connection:
        hold_numbers(connection)
        last = connection.execute(
            select(func.max(closings.c.pages_to)).where(closings.c.rollout == rollout)
        ).scalar_one()
        if last is None or last < pages_to:
            row = {
                "rollout": rollout,
                "pages_from": last or 0,
                "pages_to": pages_to,
                "events_to": _last_event(connection),
            }
            connection.execute(insert(closings).values(**row))
    return _closings(engine, rollout, after)


def closed_outcomes(
    engine: Engine, rollout: str, types: Sequence[str], window_s: float, after: int, until: int
) -> Iterator[Outcome]:
    """Events on closed pages with numbers above `after` up to `until`, added up by page and type, in order of pages.

    Only events that were there when their page was closed, and that happened within `window_s` after it.
    """
    group = (units.c.number, events.c.request_id, events.c.type)
    query = (
        select(*group, func.min(events.c.at), func.count())
        .join(events, events.c.request_id == units.c.request_id)
        .join(pages, pages.c.request_id == units.c.request_id)
        .join(
            closings,
            (closings.c.rollout == units.c.rollout)
            & (closings.c.pages_from < units.c.number)
            & (closings.c.pages_to >= units.c.number),
        )
        .where(
            units.c.rollout == rollout,
            events.c.type.in_(types),
            events.c.number <= closings.c.events_to,
            events.c.at <= pages.c.at + window_s,
        )
        .group_by(*group)
        .order_by(units.c.number, events.c.type)
    )
    ours = select(units.c.number).where(units.c.rollout == rollout, units.c.number <= until)
    while True:
        with reading(engine) as connection:
            numbers = ours.where(units.c.number > after).order_by(units.c.number).limit(_WINDOW)
            window = connection.scalars(numbers).all()
            if not window:
                return
            rows = connection.execute(query.where(units.c.number.between(window[0], window[-1]))).all()
        yield from map(Outcome._make, rows)
        after = window[-1]


def _closings(engine: Engine, rollout: str, after: int) -> list[Closing]:
    with reading(engine) as connection:
        query = select(*_CLOSING).where(closings.c.rollout == rollout, closings.c.pages_to > after)
        return [Closing._make(row) for row in connection.execute(query.order_by(closings.c.pages_to))]


def _last_event(connection: Connection) -> int:
    return connection.execute(select(func.max(events.c.number))).scalar_one() or 0
