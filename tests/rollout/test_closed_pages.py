"""Measured again, the same numbers: late clicks change nothing, and no clock but the database's counts."""

import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from taoemb.rollout.measurement.looking import NOTHING
from taoemb.rollout.measurement.measure import measure
from taoemb.rollout.measurement.measured import Measurement
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.paired import interleaved
from taoemb.rollout.measurement.slicing import Slicer
from taoemb.rollout.plan import Plan
from taoemb.serving.events.store import EventStore
from tests.rollout.rollout_rows import RELEASES, ROLLOUT, SALT, START, make_rows, open_store, write
from tests.serving.event_rows import click, page

PLAN = Plan.model_validate({"event_window_s": 100, "guardrails": []})
YEAR = 365 * 86400.0


def controller() -> Observations:
    return Observations(ROLLOUT, SALT, PLAN)


def look(seen: Observations, store: EventStore, now: float) -> Measurement:
    seen.read(store, now)
    return measure(PLAN, seen, Slicer(PLAN), RELEASES, now, NOTHING)


def served(store: EventStore, at: float, **changes: object) -> str:
    row = page(**{"rollout": ROLLOUT, "at": at, "percent": 50.0, **changes})
    store.add_pages([row])
    return row["request_id"]


def test_late_clicks_change_nothing_for_two_controllers_and_a_third_that_starts_over(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    rows = make_rows(seed=3, count=200)
    write(store, rows)
    first, second = controller(), controller()
    now = START + 150
    found = look(first, store, now)
    counted = found.find("click_rate")
    assert counted.n_control + counted.n_candidate > 30
    late = [click(row["request_id"], at=row["at"] + 1) for row in rows.pages]
    store.add_events(late)
    assert look(second, store, now) == look(first, store, now) == look(controller(), store, now) == found
    later = look(second, store, now + 1000)
    assert later.find("click_rate").n_control > counted.n_control
    assert later == look(first, store, now + 1000) == look(controller(), store, now + 1000)
    young = slice(len(first), None)
    assert not first.outcome("click")[young].any()


def test_a_controller_whose_clock_is_behind_takes_what_another_closed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    write(store, make_rows(seed=4, count=100))
    ahead, behind = look(controller(), store, START + 1000), look(controller(), store, START - 1000)
    assert ahead.estimates == behind.estimates


def test_pages_that_came_after_a_closing_are_read_by_those_who_were_behind(tmp_path: Path) -> None:
    store, slow, fast = open_store(tmp_path), controller(), controller()
    ids = [served(store, START + number) for number in range(3)]
    slow.read(store, START)
    ids += [served(store, START + number) for number in range(3, 6)]
    store.add_events([click(one, at=START + 10) for one in ids])
    fast.read(store, START + 1000)
    slow.read(store, START)
    assert slow.outcome("click").tolist() == fast.outcome("click").tolist() == [True] * 6


def test_interleaved_pages_keep_their_preference(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    items = [{"item_id": f"i{n}", "team": "candidate" if n % 2 else "control"} for n in range(4)]
    request = served(store, START, assigned="candidate", served="interleaved", items=items)
    store.add_events([click(request, item_id="i1", at=START + 1)])
    seen = controller()
    seen.read(store, START + 200)
    store.add_events([click(request, item_id=f"i{n}", at=START + 2) for n in (0, 2)])
    for one in (seen, controller()):
        one.read(store, START + 300)
        assert interleaved(one, store, np.arange(one.closed), PLAN.event_window_s).values.tolist() == [1.0]


def test_a_page_of_next_year_holds_nothing_up(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ids = [served(store, START), served(store, START + YEAR, arrived=START + 1), served(store, START + 2)]
    store.add_events([click(one, at=START + 5) for one in ids])
    seen = controller()
    found = look(seen, store, START + 200)
    assert found.find("click_rate").n_control == 3
    assert seen.outcome("click").all()


def test_a_gateway_whose_clock_is_set_back_loses_no_click(tmp_path: Path) -> None:
    """Its pages look an hour old when they come; they are closed a window after they came."""
    store, seen = open_store(tmp_path), controller()
    request = served(store, START - 3600, arrived=START)
    look(seen, store, START + 10)
    store.add_events([click(request, at=START - 3600 + 20)])
    look(seen, store, START + 50)
    assert seen.closed == 0
    look(seen, store, START + 150)
    assert (seen.closed, seen.outcome("click").tolist()) == (1, [True])


def test_a_database_whose_clock_is_set_back_loses_no_unit(tmp_path: Path) -> None:
    store, seen = open_store(tmp_path), controller()
    ids = [served(store, START), served(store, START - 3600 + 10)]
    assert look(seen, store, START - 3600 + 20).find("latency_ms").n_control == 2
    store.add_events([click(one, at=START - 3600 + 30) for one in ids])
    assert look(seen, store, START + 200).find("click_rate").n_control == 2
    assert seen.outcome("click").all()


def test_the_database_says_when_a_page_came(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    row = page(rollout=ROLLOUT, at=START, percent=50.0)
    del row["arrived"]
    store.add_pages([row])
    (kept,) = store.unit_pages(ROLLOUT)
    assert kept.arrived == pytest.approx(time.time(), abs=60)
    assert store.now() == pytest.approx(time.time(), abs=60)


def test_pages_of_an_earlier_version_go_by_their_own_time(tmp_path: Path) -> None:
    store, seen = open_store(tmp_path), controller()
    served(store, START)
    with sqlite3.connect(tmp_path / "events.db") as database:
        database.execute("UPDATE pages SET arrived = NULL")
    look(seen, store, START + 50)
    assert seen.closed == 0
    look(seen, store, START + 150)
    assert seen.closed == 1
