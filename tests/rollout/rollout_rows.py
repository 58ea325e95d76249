"""Rows of a rollout as the gateway writes them, with known grades and clicks."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taoemb.config import EventsConfig
from taoemb.serving.assignment import assign
from taoemb.serving.events.rows import Grade
from taoemb.serving.events.store import EventStore
from taoemb.serving.traffic import Arm, Traffic
from tests.serving.event_rows import click, page

ROLLOUT, SALT, JUDGE = "r1", "salt", "judge-1"
CONTROL, CANDIDATE = "c0" * 32, "ca" * 32
RELEASES = {"control": CONTROL, "candidate": CANDIDATE}
START = 1_000_000.0
QUERIES = ("red rug", "sofa without leather", "green lamp", "Red  Rug", "chair")


def open_store(folder: Path) -> EventStore:
    return EventStore(EventsConfig(url=f"sqlite:///{folder / 'events.db'}", spool=folder / "spool"))


@dataclass
class Rows:
    """What was written, in order of arrival."""

    pages: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    grades: dict[str, list[float | None]] = field(default_factory=dict)


def make_rows(seed: int, count: int, percents: tuple[float, ...] = (10.0, 50.0), users: int = 10_000) -> Rows:
    """Pages of users that come again, with fallbacks, errors, empty pages, forced ones, clicks and missing grades."""
    rng = random.Random(seed)
    rows = Rows()
    for number in range(count):
        percent = percents[number * len(percents) // count]
        unit = f"u{rng.randrange(users)}"
        traffic = Traffic(Arm(CONTROL, ()), Arm(CANDIDATE, ()), percent, rollout=ROLLOUT, salt=SALT)
        assigned = assign(traffic, unit)
        status = rng.choices(("ok", "empty", "error"), (0.9, 0.06, 0.04))[0]
        fallback = assigned == "candidate" and status != "error" and rng.random() < 0.1
        served = "none" if status == "error" else "control" if fallback else assigned
        shown = rng.randrange(1, 5) if status == "ok" else 0
        row = page(
            rollout=ROLLOUT,
            unit=unit,
            at=START + number,
            assigned=assigned,
            served=served,
            forced=rng.random() < 0.05,
            percent=percent,
            query=rng.choice(QUERIES),
            k=4,
            release=RELEASES.get(served, ""),
            collection="taoemb_a" if served != "none" else "",
            status=status,
            total_ms=rng.uniform(5, 50),
            items=[{"item_id": f"i{rng.randrange(30)}", "title": f"item {place}"} for place in range(shown)],
        )
        rows.pages.append(row)
        for kind, chance in (("click", 0.4), ("add_to_cart", 0.2), ("purchase", 0.1)):
            if shown and rng.random() < chance:
                item = rng.choice(row["items"])["item_id"]
                late = rng.choice((1.0, 500.0))
                rows.events.append(click(row["request_id"], type=kind, item_id=item, at=row["at"] + late))
        if status == "ok":
            rows.grades[row["request_id"]] = [
                None if rng.random() < 0.02 else round(rng.random(), 3) for _ in range(shown)
            ]
    return rows


def write(store: EventStore, rows: Rows, start: int = 0, end: int | None = None) -> None:
    """Pages `start` to `end` and their events."""
    part = rows.pages[start:end]
    ids = {row["request_id"] for row in part}
    store.add_pages(part)
    store.add_events([event for event in rows.events if event["request_id"] in ids])


def grade(store: EventStore, rows: Rows, request_ids: list[str]) -> None:
    """What a judge would have said about these pages."""
    store.add_grades([Grade(one, JUDGE, rows.grades[one], START) for one in request_ids])
