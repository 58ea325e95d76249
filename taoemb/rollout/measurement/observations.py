"""The units of a rollout as columns, read from the events database as they come.

Rows are never changed and only ever added at the end, so reading on from the last one gives what reading everything
anew would give: a process that starts over measures the same.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from taoemb.rollout.measurement.page_metrics import GRADED, OUTCOMES, graded_values
from taoemb.rollout.measurement.people import People, is_asked
from taoemb.rollout.measurement.sampler import is_sampled
from taoemb.rollout.plan import Plan
from taoemb.serving.events.rows import Page, PageKind
from taoemb.serving.events.store import EventStore

HUMAN = "human:"
"""Start of the source of grades that people gave."""
_UNSETTLED, _SETTLED, _UNANSWERED = 0, 1, 2
_READ_AT_ONCE = 500
_FLAGS = ("candidate", "sampled", "asked", "error", "empty", "mixed", "graded")
_NUMBERS = (
    "at",
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
        self._closed = 0  # units, from the first, whose events are not read again
        self.arrivals: list[Arrival] = []
        self.source: str | None = None
        """The judge whose grades count: the first that graded a page of this rollout."""
        self._row: dict[str, int] = {}
        self._flags = {name: array("b") for name in _FLAGS}
        self._numbers = {name: array("d") for name in _NUMBERS}
        self._outcomes: dict[str, dict[int, float]] = {event: {} for event in OUTCOMES.values()}

    def __len__(self) -> int:
        return len(self.arrivals)

    def flag(self, name: str) -> np.ndarray:
        """(N,) bool: candidate, sampled, asked (people are to grade it too), error (not answered by its own arm), empty
        or mixed (interleaved)."""
        return np.array(self._flags[name], dtype=np.int8) == 1

    def number(self, name: str) -> np.ndarray:
        """(N,) float64: at, p, latency_ms; history, bm25_overlap and the graded metrics, by the judge and as
        human_… by people, nan where not known; least_… and most_… what they may be at worst and best, as far as the
        judge said (nan while the page waits)."""
        return np.array(self._numbers[name], dtype=np.float64)

    def outcome(self, event: str) -> np.ndarray:
        """(N,) bool: whether such an event happened within the plan's window after the page."""
        happened = np.zeros(len(self), dtype=bool)
        window, at = self._plan.event_window_s, self._numbers["at"]
        rows = [row for row, first_at in self._outcomes[event].items() if first_at <= at[row] + window]
        happened[rows] = True
        return happened

    def with_outcome(self, event: str) -> list[int]:
        """Rows of the units with such an event at any time."""
        return sorted(self._outcomes[event])

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
        return self._flags["graded"].count(_UNANSWERED)

    def rows_of(self, request_ids: list[str]) -> list[int]:
        """Rows of pages by request id; pages that are not measured are left out."""
        return [self._row[one] for one in request_ids if one in self._row]

    def read(self, store: EventStore, now: float) -> None:
        """Take in what came since; `now` in Unix seconds. Raises TaoembError when the database is away."""
        first = len(self)
        for page in store.unit_pages(self.rollout, after=self.arrivals[-1].number if self.arrivals else 0):
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
        after = self.arrivals[until - 1].number if until else 0
        for grade in store.grades(self.rollout, self.source, after):
            if grade.source.startswith(HUMAN):
                continue
            self.source = self.source or grade.source
            row = self._row.get(grade.request_id)
            if row is None or not self._flags["sampled"][row]:
                continue
            if grade.source == self.source and self._flags["graded"][row] == _UNSETTLED:
                self._settle(row, list(grade.relevance))

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
        numbers = {"at": page.at, "p": p, "latency_ms": page.total_ms, "places": places}
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

    def _read_outcomes(self, store: EventStore, now: float) -> None:
        after = self.arrivals[self._closed - 1].number if self._closed else 0
        for outcome in store.outcomes(self.rollout, list(self._outcomes), after):
            found = self._row.get(outcome.request_id)
            if found is not None:
                self._outcomes[outcome.type][found] = outcome.first_at
        still_open = self.number("at") >= now - 2 * self._plan.event_window_s  # events may come late by a window
        self._closed = int(still_open.argmax()) if still_open.any() else len(self)
