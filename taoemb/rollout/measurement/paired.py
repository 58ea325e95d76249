"""Values that compare both arms at once: pages side by side on the same query, and clicks on interleaved pages.

A pair's place in the sequence is where its later page stands, and which pages meet depends on their order of arrival
only, never on what is on them. Under equal arms a pair's value is symmetric about 0.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.page_metrics import preference
from taoemb.rollout.measurement.slicing import same_query
from taoemb.serving.events.store import EventStore

_READ_AT_ONCE = 500


@dataclass(frozen=True)
class Paired:
    """M values in [-1, 1] in order, and the row of the unit where each stands."""

    rows: np.ndarray  # (M,) int64
    values: np.ndarray  # (M,) float64, the middle of what is possible
    least: np.ndarray | None = None  # (M,) float64; None: the values are known
    most: np.ndarray | None = None


def side_by_side(seen: Observations, rows: Sequence[int]) -> Paired:
    """GSB: the first waiting control page and the first waiting candidate page of a query meet; more good items win.

    `rows` are settled graded units in order, those that the judge left unanswered too: such a page meets as any other,
    and its pair is worth what its items may be. Valid as the mean of the pairs that met. How queries weigh in it
    follows from the traffic of both arms, and it may shift with the split.
    """
    ranges = np.stack([seen.number("least_item_goodrate"), seen.number("most_item_goodrate")])
    candidate = seen.flag("candidate")
    waiting: dict[tuple[str, bool], deque[int]] = defaultdict(deque)
    met: list[int] = []
    gains: list[np.ndarray] = []
    for row in rows:
        mine = bool(candidate[row])
        query = same_query(seen.arrivals[row].query)
        others = waiting[query, not mine]
        if not others:
            waiting[query, mine].append(row)
            continue
        other = others.popleft()
        better, worse = (row, other) if mine else (other, row)
        met.append(row)
        gains.append(np.sign(ranges[:, better] - ranges[::-1, worse]))
    least, most = np.stack(gains, axis=1) if gains else np.empty((2, 0))
    return Paired(np.array(met, dtype=np.int64), (least + most) / 2, least, most)


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
    for event in store.events(ids):
        if event.type == "click" and event.item_id is not None and event.at <= pages[event.request_id].at + window_s:
            clicks[event.request_id].add(event.item_id)
    return [_preference(pages[one].items or (), clicks[one]) for one in ids]


def _preference(items: Sequence[Mapping[str, object]], clicked: set[str]) -> float:
    teams = [item.get("team") for item in items if item["item_id"] in clicked]
    return preference(teams.count("candidate"), teams.count("control"))
