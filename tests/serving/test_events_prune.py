"""Old pages go with all that hangs on them; a rollout goes whole or not at all; numbers only grow."""

import time

import pytest

from taoemb.config import EventsConfig
from taoemb.serving.events import prune as prune_module
from taoemb.serving.events.prune import Pruned, prune
from taoemb.serving.events.rows import Grade
from taoemb.serving.events.store import EventStore
from tests.serving.event_rows import click, page

DAY = 86400


@pytest.fixture
def config(database, monkeypatch):
    monkeypatch.setattr(prune_module, "_WINDOW", 2)
    return EventsConfig(url=database)


def test_what_is_old_goes_and_what_is_measured_stays(config):
    now = time.time()
    over = [page(rollout="over", at=now - 40 * DAY) for _ in range(5)]
    running = [page(rollout="running", at=now - age * DAY) for age in (40, 1)]
    loose = [page(rollout="", at=now - age * DAY) for age in (40, 1)]
    with EventStore(config) as store:
        store.add_pages([*over, *running, *loose])
        store.add_events([click(row["request_id"], at=row["at"]) for row in [*over, *running, *loose]])
        store.add_events([click("no page", at=now - age * DAY) for age in (40, 40, 40, 1)])
        store.add_grades([Grade(row["request_id"], "judge", [1.0], now) for row in [*over, *running]])
        store.rollouts.create("over", {}, {}, now - 40 * DAY)
        assert prune(config, 30) == Pruned(pages=6, events=6 + 3)
        assert list(store.unit_pages("over")) == []
        assert store.grades("over") == []
        assert store.events([row["request_id"] for row in over]) == []
        assert [one.request_id for one in store.unit_pages("running")] == [row["request_id"] for row in running]
        assert len(store.grades("running")) == 2
        assert [one.request_id for one in store.all_pages("")] == [loose[1]["request_id"]]
        assert len(store.events(["no page"])) == 1
        assert store.rollouts.read("over") is not None
        assert prune(config, 30) == Pruned(0, 0)


def test_a_reader_goes_on_after_everything_was_old(config):
    with EventStore(config) as store:
        store.add_pages([page(rollout="", at=1.0) for _ in range(3)])
        before = list(store.all_pages(""))
        prune(config, 1)
        store.add_pages([row := page(rollout="")])
        news = list(store.all_pages("", after=before[-1].number))
        assert [one.request_id for one in news] == [row["request_id"]]
