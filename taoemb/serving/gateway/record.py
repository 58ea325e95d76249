"""One served search as its reply and as its row for the measurement: both from the same values."""

import time
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

from taoemb.serving.gateway.models import Event
from taoemb.serving.gateway.search import Ask, Served


class Rows(Protocol):
    """What keeps rows, off the request path: `taoemb.serving.events.writer.Recorder`."""

    def page(self, row: dict[str, Any]) -> None: ...

    def event(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Timed:
    """When a search came in (Unix seconds), and what it took (seconds)."""

    at: float
    total_s: float
    encoder_s: float
    search_s: float


def timed(served: Served, at: float, total_s: float) -> Timed:
    """The arms of an interleaved page are asked side by side: the slower one counts."""
    encoder_s = max((ranking.encoder_s for ranking in served.rankings), default=0.0)
    search_s = max((ranking.search_s for ranking in served.rankings), default=0.0)
    return Timed(at, total_s, encoder_s, search_s)


def page(ask: Ask, served: Served, times: Timed) -> dict[str, Any]:
    """The reply to a shopper, a `models.Page` as plain values. The search must have been served."""
    return {
        "request_id": ask.request_id,
        "unit": ask.unit,
        "items": [vars(hit) for hit, _ in served.items],
        "timings": _milliseconds(times),
    }


def told_page(ask: Ask, served: Served, times: Timed) -> dict[str, Any]:
    """The reply to a tester, a `models.ToldPage`."""
    return page(ask, served, times) | {
        "rollout": served.traffic.rollout if served.traffic is not None else "",
        "assigned": served.assigned,
        "served": served.served,
        "release": _only(served, "release"),
        "collection": _only(served, "collection"),
        "sources": [{"arm": one.arm, "release": one.release, "collection": one.collection} for one in served.rankings],
        "items": [vars(hit) | {"team": team} for hit, team in served.items],
    }


def page_row(ask: Ask, served: Served, times: Timed) -> dict[str, Any]:
    """The row of table `pages`, also for a search that failed."""
    traffic = served.traffic
    return {
        "request_id": ask.request_id,
        "at": times.at,
        "rollout": traffic.rollout if traffic is not None else "",
        "unit": ask.unit,
        "assigned": served.assigned,
        "served": served.served,
        "forced": ask.forced is not None or not ask.measured,
        "percent": traffic.percent if traffic is not None else 0.0,
        "query": ask.query,
        "k": ask.k,
        "filter": ask.filter,
        "release": _only(served, "release"),
        "collection": _only(served, "collection"),
        "items": [_item(vars(hit), team) for hit, team in served.items],
        "status": status(served),
        **_milliseconds(times),
    }


def event_row(event: Event) -> dict[str, Any]:
    """The row of table `events`; an event without an id gets one here and counts as often as it is sent."""
    return event.model_dump() | {"event_id": event.event_id or uuid.uuid4().hex, "at": time.time()}


def status(served: Served) -> str:
    """ok, empty or error."""
    if not served.rankings:
        return "error"
    return "ok" if served.items else "empty"


def _only(served: Served, name: str) -> str:
    """A value of the one ranking; an interleaved page has none of its own."""
    return str(vars(served.rankings[0])[name]) if len(served.rankings) == 1 else ""


def _item(item: dict[str, Any], team: str | None) -> dict[str, Any]:
    return dict(item) if team is None else item | {"team": team}


def _milliseconds(times: Timed) -> dict[str, float]:
    parts = {"total_ms": times.total_s, "encoder_ms": times.encoder_s, "search_ms": times.search_s}
    return {name: round(1000 * seconds, 3) for name, seconds in parts.items()}
