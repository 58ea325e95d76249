"""The reading side of the events database: what a rollout is measured on.

Every walk over many pages goes in short transactions from one number to the next, so that it holds nothing up and may
be given up at any point; `after` goes on where an earlier walk ended.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Row, Select, Table, func, select

from taoemb.config import EventsConfig
from taoemb.serving.events.closings import close_pages, closed_outcomes
from taoemb.serving.events.database import database_url, open_engine, reading, writing
from taoemb.serving.events.insert import clock_now, insert_events, insert_once, insert_pages
from taoemb.serving.events.migrate import upgrade
from taoemb.serving.events.rollout_records import RolloutRecords
from taoemb.serving.events.rows import Closing, Event, Grade, Outcome, Page, PageCounts, PageKind
from taoemb.serving.events.tables import events, grades, pages, units

_WINDOW = 5000  # pages in one transaction of a walk
_IDS = 500  # request ids in one statement
_PAGE = [pages.c[name] for name in Page._fields if name != "items"]
_PAGE_WITH_ITEMS = [*_PAGE, pages.c["items"]]
_EVENT = [events.c[name] for name in Event._fields]
_GRADE = [grades.c[name] for name in Grade._fields]
_T = TypeVar("_T")


class EventStore:
    """Pages, events and grades; rollouts and their decisions as `rollouts`. Threads may share one.

    Opening it brings the database to this version's tables. Raises InputError when the database can't be used at all,
    TaoembError when it is away, here and in every method.
    """

    def __init__(self, config: EventsConfig) -> None:
        self._engine = open_engine(database_url(config), timeout_s=config.timeout_s)
        upgrade(self._engine)
        self.rollouts = RolloutRecords(self._engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def unit_pages(self, rollout: str, after: int = 0, *, items: bool = False) -> Iterator[Page]:
        """The one page that each unit of a rollout is measured on: its first that was not forced.

        In order of arrival. Later calls only ever add pages at the end: give the last page's number as `after`.
        `items` also reads what was on the pages (about 2 kB each).
        """
        query = select(*(_PAGE_WITH_ITEMS if items else _PAGE)).join(units, units.c.request_id == pages.c.request_id)
        return self._walk(units, rollout, after, query.order_by(units.c.number), _page)

    def all_pages(self, rollout: str, after: int = 0, *, items: bool = False) -> Iterator[Page]:
        """All pages of a rollout, forced ones too, in order of arrival."""
        query = select(*(_PAGE_WITH_ITEMS if items else _PAGE))
        return self._walk(pages, rollout, after, query.order_by(pages.c.number), _page)

    def latest_pages(self, rollout: str, limit: int = 20) -> list[Page]:
        """The last pages of a rollout with their items, the newest first."""
        query = select(*_PAGE_WITH_ITEMS).where(pages.c.rollout == rollout).order_by(pages.c.number.desc())
        with reading(self._engine) as connection:
            return [Page._make(row) for row in connection.execute(query.limit(limit))]

    def pages(self, request_ids: Sequence[str]) -> dict[str, Page]:
        """Pages with their items by request id; ids that are not there are left out."""
        found = map(Page._make, self._by_id(select(*_PAGE_WITH_ITEMS), pages, request_ids))
        return {page.request_id: page for page in found}

    def count_pages(self, rollout: str, after: int = 0) -> PageCounts:
        """How many pages of each kind a rollout has among those that came after the number `after`."""
        kind = [pages.c[name] for name in PageKind._fields]
        ours = pages.c.rollout == rollout
        with reading(self._engine) as connection:
            last = connection.execute(select(func.max(pages.c.number)).where(ours)).scalar_one()
            if last is None or last <= after:
                return PageCounts({}, after)
            query = select(*kind, func.count()).where(ours, pages.c.number.between(after + 1, last)).group_by(*kind)
            return PageCounts({PageKind._make(row[:-1]): row[-1] for row in connection.execute(query)}, last)

    def count_units(self, rollout: str) -> int:
        """How many units a rollout has."""
        with reading(self._engine) as connection:
            return connection.execute(select(func.count()).where(units.c.rollout == rollout)).scalar_one()

    def outcomes(self, rollout: str, types: Sequence[str], after: int = 0) -> Iterator[Outcome]:
        """Events on the units' measured pages, counted by page and type, in order of the pages' numbers.

        `after` is a page's number: events on pages up to it are taken as complete and not read again.
        """
        group = (units.c.number, events.c.request_id, events.c.type)
        query = (
            select(*group, func.min(events.c.at), func.count())
            .join(events, events.c.request_id == units.c.request_id)
            .where(events.c.type.in_(types))
            .group_by(*group)
            .order_by(units.c.number, events.c.type)
        )
        return self._walk(units, rollout, after, query, Outcome._make)

    def close_pages(self, rollout: str, pages_to: int, after: int = 0) -> list[Closing]:
        """Close a rollout's pages up to this number; all closings of pages above `after` (`closings.close_pages`)."""
        return close_pages(self._engine, rollout, pages_to, after)

    def closed_outcomes(
        self, rollout: str, types: Sequence[str], window_s: float, after: int, until: int
    ) -> Iterator[Outcome]:
        """Events that count for closed pages (`closings.closed_outcomes`)."""
        return closed_outcomes(self._engine, rollout, types, window_s, after, until)

    def now(self) -> float:
        """Unix seconds by the database's clock, which all who share it agree on."""
        with reading(self._engine) as connection:
            return clock_now(connection)

    def events(self, request_ids: Sequence[str]) -> list[Event]:
        """All events on these pages, in order of arrival."""
        return sorted(map(Event._make, self._by_id(select(*_EVENT), events, request_ids)))

    def grades(self, rollout: str, source: str | None = None, after: int = 0) -> list[Grade]:
        """Grades of a rollout's pages, of one source or all, in order of the pages' numbers.

        `after` is a page's number; grades of pages up to it are left out.
        """
        query = select(*_GRADE).join(pages, pages.c.request_id == grades.c.request_id)
        query = query.where(pages.c.rollout == rollout, pages.c.number > after)
        if source is not None:
            query = query.where(grades.c.source == source)
        with reading(self._engine) as connection:
            return [Grade._make(row) for row in connection.execute(query.order_by(pages.c.number, grades.c.source))]

    def grades_of(self, request_ids: Sequence[str], source: str | None = None) -> list[Grade]:
        """Grades of these pages, of one source or all."""
        query = select(*_GRADE) if source is None else select(*_GRADE).where(grades.c.source == source)
        return [Grade._make(row) for row in self._by_id(query, grades, request_ids)]

    def add_pages(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write pages (columns of `tables.pages` but `number`); rows that are there already stay as they are."""
        with writing(self._engine) as connection:
            insert_pages(connection, rows)

    def add_events(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write events (columns of `tables.events` but `number`); rows that are there already stay as they are."""
        with writing(self._engine) as connection:
            insert_events(connection, rows)

    def add_grades(self, rows: Sequence[Grade]) -> None:
        """Write grades; the first of a (page, source) stays."""
        with writing(self._engine) as connection:
            if rows:
                connection.execute(insert_once(connection, grades), [row._asdict() for row in rows])

    def _walk(
        self, table: Table, rollout: str, after: int, query: Select[Any], make: Callable[[Row[Any]], _T]
    ) -> Iterator[_T]:
        """The query's rows, a window of `table`'s numbers (pages or units of the rollout) at a time."""
        ours = table.c.rollout == rollout
        numbers = select(table.c.number).where(ours).order_by(table.c.number).limit(_WINDOW)
        while True:
            with reading(self._engine) as connection:
                window = connection.scalars(numbers.where(table.c.number > after)).all()
                if not window:
                    return
                inside = table.c.number.between(window[0], window[-1])
                rows = connection.execute(query.where(ours, inside)).all()
            yield from map(make, rows)
            after = window[-1]

    def _by_id(self, query: Select[Any], table: Table, request_ids: Sequence[str]) -> Iterator[Row[Any]]:
        ids = list(dict.fromkeys(request_ids))
        for start in range(0, len(ids), _IDS):
            with reading(self._engine) as connection:
                part = table.c.request_id.in_(ids[start : start + _IDS])
                rows = connection.execute(query.where(part)).all()
            yield from rows


def _page(row: Sequence[Any]) -> Page:
    return Page(*row)
