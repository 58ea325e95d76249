"""One user's rows go, whatever database holds them, and nobody else's."""

import json

import pytest
from sqlalchemy import select

from taoemb.cli.main import main
from taoemb.config import EventsConfig
from taoemb.serving.events import erase as erase_module
from taoemb.serving.events.database import open_engine, reading
from taoemb.serving.events.rows import Grade
from taoemb.serving.events.store import EventStore
from taoemb.serving.events.tables import metadata
from tests.serving.event_rows import click, page

USER = "Ann O'Neil 100%"


@pytest.fixture
def store(database, monkeypatch):
    monkeypatch.setattr(erase_module, "_WINDOW", 2)
    with EventStore(EventsConfig(url=database)) as opened:
        yield opened


def whole_database(url: str) -> str:
    """Everything that stands in it, as text."""
    engine = open_engine(url, timeout_s=5)
    try:
        with reading(engine) as connection:
            return repr([connection.execute(select(table)).all() for table in metadata.sorted_tables])
    finally:
        engine.dispose()


def fill(store, *units):
    for number, unit in enumerate(units):
        row = page(unit=unit, query=f"query {number} of {unit}", rollout=("summer", "")[number % 2])
        store.add_pages([row])
        store.add_events([click(row["request_id"], event_id=f"{number} {unit}", item_id=f"item of {unit}")])
        store.add_grades([Grade(row["request_id"], "judge", [1.0], 1.0)])


@pytest.mark.parametrize("last", [USER, "Bob"])
def test_nothing_of_the_user_is_left_and_all_of_the_others(store, database, capsys, last):
    fill(store, USER, "Bob", USER, USER, "Ann", USER, last)
    mine = 4 + (last == USER)
    with pytest.raises(SystemExit) as done:
        main(["serve", "erase-events", "--user", USER, "--json", "--set", f"events.url={database}"])
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out) == {"pages": mine, "events": mine}
    left = whole_database(database)
    assert "O'Neil" not in left
    assert [left.count(f"query {number} of {unit}") for number, unit in ((1, "Bob"), (4, "Ann"))] == [1, 1]
    bobs = [one for rollout in ("summer", "") for one in store.all_pages(rollout) if one.unit in ("Bob", "Ann")]
    assert len(store.events([one.request_id for one in bobs])) == len(bobs) == 7 - mine
    assert {one.unit for one in store.unit_pages("summer")} <= {"Ann", "Bob"}
    fill(store, "Bob")
    numbers = [one.number for rollout in ("summer", "") for one in store.all_pages(rollout)]
    assert max(numbers) == 8, "numbers only grow"


def test_of_a_user_who_was_never_there_nothing_is_found(store, database, capsys):
    fill(store, "Bob")
    with pytest.raises(SystemExit):
        main(["serve", "erase-events", "--user", "%", "--json", "--set", f"events.url={database}"])
    assert json.loads(capsys.readouterr().out) == {"pages": 0, "events": 0}
    assert "Bob" in whole_database(database)
