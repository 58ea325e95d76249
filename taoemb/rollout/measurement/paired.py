"""Values that compare both arms at once: pages side by side on the same query, and clicks on interleaved pages.

A pair's place in the sequence is where its later page stands, and which pages meet depends on their order of arrival
only, never on what is on them. Under equal arms a pair's value is symmetric about 0.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.page_metrics import preference
from taoemb.rollout.measurement.slicing import same_query
from taoemb.serving.events.store import EventStore

MOST_WAITING = 100_000
"""Pages that wait for one of the other arm."""
_READ_AT_ONCE = 500


@dataclass(frozen=True)
class Paired:
    """M values in [-1, 1] in order, and the row of the unit where each stands."""

    rows: np.ndarray  # (M,) int64
    values: np.ndarray  # (M,) float64, the middle of what is possible
    least: np.ndarray | None = None  # (M,) float64; None: the values are known
    most: np.ndarray | None = None


class Pairing:
    """GSB: the first waiting control page and the first waiting candidate page of a query meet; more good items win.

    Valid as the mean of the pairs that met. How queries weigh in it follows from the traffic of both arms, and it may
    shift with the split.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, bool], deque[np.ndarray]] = {}
        self._count = 0

    def meet(self, seen: Observations, rows: Sequence[int]) -> Paired:
        """The pairs that these rows make, with each other and with those that wait.

        `rows` are settled graded units in order, those that the judge left unanswered too: such a page meets as any
        other, and its pair is worth what its items may be.
        """
        ranges = np.stack([seen.number("least_item_goodrate"), seen.number("most_item_goodrate")])
        candidate = seen.flag("candidate")
        met: list[int] = []
        gains: list[np.ndarray] = []
        for row in rows:
            mine, query = bool(candidate[row]), same_query(seen.arrivals[row].query)
            other = self._next(query, not mine)
            if other is None:
                self._wait(query, mine, ranges[:, row])
                continue
            better, worse = (ranges[:, row], other) if mine else (other, ranges[:, row])
            met.append(row)
            gains.append(np.sign(better - worse[::-1]))
        least, most = np.stack(gains, axis=1) if gains else np.empty((2, 0))
        return Paired(np.array(met, dtype=np.int64), (least + most) / 2, least, most)

    def _next(self, query: str, candidate: bool) -> np.ndarray | None:
        waiting = self._waiting.get((query, candidate))
        if waiting is None:
            return None
        found = waiting.popleft()
        self._count -= 1
        if not waiting:
            del self._waiting[query, candidate]
        return found

    def _wait(self, query: str, candidate: bool, values: np.ndarray) -> None:
        """Of very many waiting pages the query that came up first gives one up, whatever is on it."""
        self._waiting.setdefault((query, candidate), deque()).append(values.copy())
        self._count += 1
        if self._count > MOST_WAITING:
            self._next(*next(iter(self._waiting)))


def side_by_side(seen: Observations, rows: Sequence[int]) -> Paired:
    """All pairs of these rows (:class:`Pairing`)."""
    return Pairing().meet(seen, rows)


def interleaved(seen: Observations, store: EventStore, rows: np.ndarray, window_s: float) -> Paired:
    """Preference of each interleaved page among `rows`; a page without clicks prefers nobody and counts 0."""
    rows = rows[seen.flag("mixed")[rows]]
    values = dict.fromkeys(rows.tolist(), 0.0)
    clicked = [row for row in seen.with_outcome("click") if row in values]
    for start in range(0, len(clicked), _READ_AT_ONCE):
        part = clicked[start : start + _READ_AT_ONCE]
        values.update(zip(part, _preferences(seen, store, part, window_s), strict=True))
    return Paired(rows, np.array([values[row] for row in rows.tolist()]))


def _preferences(seen: Observations, store: EventStore, rows: Sequence[int], window_s: float) -> list[float]:
    ids = [seen.arrivals[row].request_id for row in rows]
    pages = store.pages(ids)
    clicks: dict[str, set[str]] = {one: set() for one in ids}
    last = {one: seen.events_to(row) for one, row in zip(ids, rows, strict=True)}
    for event in store.events(ids):
        in_time = event.number <= last[event.request_id] and event.at <= pages[event.request_id].at + window_s
        if event.type == "click" and event.item_id is not None and in_time:
            clicks[event.request_id].add(event.item_id)
    return [_preference(pages[one].items or (), clicks[one]) for one in ids]


def _preference(items: Sequence[Mapping[str, object]], clicked: set[str]) -> float:
    teams = [item.get("team") for item in items if item["item_id"] in clicked]
    return preference(teams.count("candidate"), teams.count("control"))
