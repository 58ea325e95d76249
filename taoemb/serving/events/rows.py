"""What is read back from the events database, as plain values."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Page(NamedTuple):
    """A page that was served; the columns are told in `taoemb.serving.events.tables.pages`."""

    number: int
    """Order of arrival in the database."""
    request_id: str
    at: float
    rollout: str
    unit: str
    assigned: str
    served: str
    forced: bool
    percent: float
    query: str
    k: int
    filter: str
    release: str
    collection: str
    status: str
    total_ms: float
    encoder_ms: float
    search_ms: float
    arrived: float | None = None
    """Unix seconds by the database's clock; None for pages of an earlier version."""
    items: Sequence[Mapping[str, Any]] | None = None
    """As served; None where the reader did not ask for them."""


class PageKind(NamedTuple):
    """What pages are counted by."""

    assigned: str
    served: str
    forced: bool
    status: str
    release: str
    collection: str


class PageCounts(NamedTuple):
    """How many pages of each kind, and up to which number they were counted."""

    pages: Mapping[PageKind, int]
    last: int


class Event(NamedTuple):
    """What a shopper did on a page."""

    number: int
    event_id: str
    request_id: str
    type: str
    item_id: str | None
    position: int | None
    value: float | None
    at: float


class Outcome(NamedTuple):
    """All events of one type on the page that a unit is measured on."""

    number: int
    """Of the page."""
    request_id: str
    type: str
    first_at: float
    """Unix seconds of the earliest one."""
    times: int


class Closing(NamedTuple):
    """Pages whose events are complete: those with numbers above `pages_from` up to `pages_to`."""

    pages_from: int
    pages_to: int
    events_to: int
    """Events with higher numbers came too late for these pages."""


class Grade(NamedTuple):
    """A judge's answers on one page."""

    request_id: str
    source: str
    relevance: Sequence[float | None]
    at: float


class StoredRollout(NamedTuple):
    """A rollout as it is kept; `version` tells a later write whether another one came between."""

    name: str
    plan: Mapping[str, Any]
    state: Mapping[str, Any]
    version: int
    at: float


class StoredDecision(NamedTuple):
    """One look at a rollout and what was decided."""

    number: int
    rollout: str
    at: float
    verdict: Mapping[str, Any]
    measurement: Mapping[str, Any]
