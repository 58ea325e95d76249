"""The units of a rollout as columns, read from the events database as they come.

Rows are never changed and only ever added at the end, so reading on from the last one gives what reading everything
anew would give: a process that starts over measures the same.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from taoemb.rollout.measurement.page_metrics import GRADED, OUTCOMES, graded_values
from taoemb.rollout.measurement.people import People, is_asked
from taoemb.rollout.measurement.sampler import is_sampled
from taoemb.rollout.plan import Plan
from taoemb.serving.events.rows import Closing, Page, PageKind
from taoemb.serving.events.store import EventStore

HUMAN = "human:"
"""Start of the source of grades that people gave."""
_UNSETTLED, _SETTLED, _UNANSWERED = 0, 1, 2
_READ_AT_ONCE = 500
_FLAGS = ("candidate", "sampled", "asked", "error", "empty", "mixed", "graded")
_NUMBERS = (
    "came",
    "p",
    "latency_ms",
    "places",
    "history",
    "bm25_overlap",
    *GRADED,
    *(f"{prefix}_{name}" for prefix in ("human", "least", "most") for name in GRADED),
)

Overlap = Callable[[Page], float]
"""bm25_overlap of a page with its items."""


@dataclass(frozen=True)
class Arrival:
    """What is kept of a unit's page as text."""

    number: int
    """Its place in the database."""
    request_id: str
    query: str


class Observations:
    """A rollout's measured units in order of arrival; `read` goes on where it stopped. Arrays are (N,), N units."""

    def __init__(
        self,
        rollout: str,
        salt: str,
        plan: Plan,
        overlap: Overlap | None = None,
        history: Mapping[str, float] | None = None,
        people: People | None = None,
    ) -> None:
        """`overlap` measures bm25_overlap; `history` is a value of units from before the rollout (CUPED); `people`
        grade a part of the pages too."""
        self.rollout, self._salt, self._plan, self._overlap = rollout, salt, plan, overlap
        self._history = history or {}
        self._people = people
        self.kinds: Counter[PageKind] = Counter()
        """How many pages of each kind the rollout has, forced ones too."""
        self._counted = 0
        self._closings: list[Closing] = []
        self.closed = 0
        """How many units, from the first, are closed: their events are complete, for whoever measures."""
        self.arrivals: list[Arrival] = []
        self._before = 0  # number of the last page that was let go
        self._unanswered_before = 0
        self.source: str | None = None
        """The judge whose grades count: the first that graded a page of this rollout."""
        self._row: dict[str, int] = {}
        self._flags = {name: array("b") for name in _FLAGS}
        self._numbers = {name: array("d") for name in _NUMBERS}
        self._outcomes: dict[str, set[int]] = {event: set() for event in OUTCOMES.values()}

    def __len__(self) -> int:
        return len(self.arrivals)

    def flag(self, name: str) -> np.ndarray:
        """(N,) bool: candidate, sampled, asked (people are to grade it too), error (not answered by its own arm), empty
        or mixed (interleaved)."""
        return np.array(self._flags[name], dtype=np.int8) == 1

    def number(self, name: str) -> np.ndarray:
        """(N,) float64: came (Unix seconds, the database's clock), p, latency_ms; history, bm25_overlap and the graded
        metrics, by the judge and as human_… by people, nan where not known; least_… and most_… what these may be at
        worst and best, as far as the judge said (nan while the page waits)."""
        return np.array(self._numbers[name], dtype=np.float64)

    def outcome(self, event: str) -> np.ndarray:
        """(N,) bool: whether such an event counts for the page; False for pages that are not closed."""
        happened = np.zeros(len(self), dtype=bool)
        happened[list(self._outcomes[event])] = True
        return happened

    def with_outcome(self, event: str) -> list[int]:
        """Rows of the units with such an event."""
        return sorted(self._outcomes[event])

    def events_to(self, row: int) -> int:
        """Number of the last event that counts for a closed row."""
        number = self.arrivals[row].number
        return self._closings[bisect_left(self._closings, number, key=lambda one: one.pages_to)].events_to

    def graded_until(self) -> int:
        """How many units, from the first, are settled: none before this one waits for the judge.

        Graded metrics look at these only, so that no unit is skipped for being slow to grade.
        """
        waiting = self.flag("sampled") & (np.array(self._flags["graded"], dtype=np.int8) == _UNSETTLED)
        return int(waiting.argmax()) if waiting.any() else len(self)

    def waiting(self) -> list[Arrival]:
        """Sampled pages without grades, in order of arrival."""
        rows = np.flatnonzero(self.flag("sampled") & (np.array(self._flags["graded"], dtype=np.int8) == _UNSETTLED))
        return [self.arrivals[row] for row in rows]

    def unanswered(self) -> int:
        """Sampled pages that the judge left without a grade for some item."""
        return self._unanswered_before + self._flags["graded"].count(_UNANSWERED)

    def rows_of(self, request_ids: list[str]) -> list[int]:
        """Rows of pages by request id; pages that are not measured are left out."""
        return [self._row[one] for one in request_ids if one in self._row]

    def read(self, store: EventStore, now: float | None) -> None:
        """Take in what came since, and close the pages that came a window before `now` (Unix seconds by the database's
        clock; None closes none). Raises TaoembError when the database is away."""
        first = len(self)
        for page in store.unit_pages(self.rollout, after=self._number_before(len(self))):
            self._add(page)
        counts = store.count_pages(self.rollout, self._counted)
        self.kinds.update(counts.pages)
        self._counted = counts.last
        self._read_overlap(store, first)
        self.read_grades(store)
        self._read_people(store)
        self._read_outcomes(store, now)

    def read_grades(self, store: EventStore) -> None:
        """Take in new grades of the rollout's judge."""
        until = self.graded_until()
        after = self._number_before(until)
        for grade in store.grades(self.rollout, self.source, after):
            if grade.source.startswith(HUMAN):
                continue
            self.source = self.source or grade.source
            row = self._row.get(grade.request_id)
            if row is None or not self._flags["sampled"][row]:
                continue
            if grade.source == self.source and self._flags["graded"][row] == _UNSETTLED:
                self._settle(row, list(grade.relevance))

    def forget(self, rows: int) -> None:
        """Let go of so many rows, from the first, all closed and settled; the others move up."""
        if not rows:
            return
        self._before = self._number_before(rows)
        self._unanswered_before += self._flags["graded"][:rows].count(_UNANSWERED)
        del self.arrivals[:rows]
        for flags in self._flags.values():
            del flags[:rows]
        for numbers in self._numbers.values():
            del numbers[:rows]
        self._row = {arrival.request_id: row for row, arrival in enumerate(self.arrivals)}
        for event, happened in self._outcomes.items():
            self._outcomes[event] = {row - rows for row in happened if row >= rows}
        self.closed -= rows
        self._closings = [one for one in self._closings[:-1] if one.pages_to > self._before] + self._closings[-1:]

    def _number_before(self, row: int) -> int:
        """Number of the page before this row, 0 before the first page of all."""
        return self.arrivals[row - 1].number if row else self._before

    def _add(self, page: Page) -> None:
        row = len(self.arrivals)
        candidate, p = page.assigned == "candidate", page.percent / 100
        mixed = page.served == "interleaved"
        own = mixed or page.served == page.assigned
        sampled = is_sampled(self._salt, page.unit, candidate, p, self._plan.sample)
        flags = {
            "candidate": candidate,
            "sampled": sampled,
            "asked": sampled and self._people is not None and is_asked(self._salt, page.unit, self._plan.human_share),
            "error": page.status == "error" or not own,
            "empty": page.status == "empty",
            "mixed": mixed,
            "graded": _UNSETTLED,
        }
        places = float(max(1, min(self._plan.depth, page.k)))
        came = page.at if page.arrived is None else page.arrived
        numbers = {"came": came, "p": p, "latency_ms": page.total_ms, "places": places}
        numbers["history"] = self._history.get(page.unit, np.nan)
        for name, flag in self._flags.items():
            flag.append(flags[name])
        for name, column in self._numbers.items():
            column.append(numbers.get(name, np.nan))
        self.arrivals.append(Arrival(page.number, page.request_id, page.query))
        self._row[page.request_id] = row
        if page.status != "ok":
            self._settle(row, [])
            self._keep_grades(row, "human_", [])

    def _settle(self, row: int, relevance: list[float | None]) -> None:
        places = int(self._numbers["places"][row])
        shown = relevance[:places]
        self._keep_grades(row, "least_", [0.0 if value is None else value for value in shown])
        self._keep_grades(row, "most_", [1.0 if value is None else value for value in shown])
        answered = [value for value in shown if value is not None]
        if len(answered) < len(shown):
            self._flags["graded"][row] = _UNANSWERED
            return
        self._flags["graded"][row] = _SETTLED
        self._keep_grades(row, "", answered)

    def _keep_grades(self, row: int, prefix: str, relevance: Sequence[float]) -> None:
        values = graded_values(relevance, int(self._numbers["places"][row]), self._plan.good_relevance)
        for name, value in zip(GRADED, values, strict=True):
            self._numbers[prefix + name][row] = value

    def for_people(self) -> list[Arrival]:
        """Pages that people were asked for and have not graded, in order of arrival."""
        rows = np.flatnonzero(self.flag("asked") & np.isnan(self.number("human_item_goodrate")))
        return [self.arrivals[row] for row in rows]

    def _read_people(self, store: EventStore) -> None:
        if self._people is None:
            return
        self._people.refresh()
        waiting = [arrival.request_id for arrival in self.for_people()]
        for start in range(0, len(waiting), _READ_AT_ONCE):
            for request_id, page in store.pages(waiting[start : start + _READ_AT_ONCE]).items():
                row = self._row[request_id]
                top = (page.items or ())[: int(self._numbers["places"][row])]
                relevance = self._people.relevance(page.query, [item["item_id"] for item in top])
                if relevance is not None:
                    self._keep_grades(row, "human_", relevance)

    def _read_overlap(self, store: EventStore, first: int) -> None:
        if self._overlap is None:
            return
        rows = [row for row in range(first, len(self)) if self._flags["sampled"][row]]
        for start in range(0, len(rows), _READ_AT_ONCE):
            part = rows[start : start + _READ_AT_ONCE]
            pages = store.pages([self.arrivals[row].request_id for row in part])
            for row in part:
                self._numbers["bm25_overlap"][row] = self._overlap(pages[self.arrivals[row].request_id])

    def _read_outcomes(self, store: EventStore, now: float | None) -> None:
        """A page's age counts from when it came into the database: no gateway's clock has a part in it."""
        young = self.number("came") > (-np.inf if now is None else now - self._plan.event_window_s)
        ripe = int(young.argmax()) if young.any() else len(self)
        last = self._closings[-1].pages_to if self._closings else 0
        wanted = self.arrivals[ripe - 1].number if ripe else 0
        self._closings += store.close_pages(self.rollout, wanted, last)
        last = self._closings[-1].pages_to if self._closings else 0
        closed = bisect_right(self.arrivals, last, key=lambda arrival: arrival.number)
        if closed == self.closed:
            return
        after = self._number_before(self.closed)
        until, types = self.arrivals[closed - 1].number, list(self._outcomes)
        for outcome in store.closed_outcomes(self.rollout, types, self._plan.event_window_s, after, until):
            found = self._row.get(outcome.request_id)
            if found is not None:
                self._outcomes[outcome.type].add(found)
        self.closed = closed
