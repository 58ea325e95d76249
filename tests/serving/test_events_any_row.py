"""Whatever the gateway hands over is stored or put aside, by the same rule for both databases, and holds up nothing."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from taoemb.config import EventsConfig
from taoemb.serving.events.recorder_metrics import recorder_metrics
from taoemb.serving.events.row_check import problem
from taoemb.serving.events.shipping import Entry, Shipper, encode
from taoemb.serving.events.store import EventStore
from taoemb.serving.events.tables import events, pages
from tests.serving.event_rows import click, page

_case = itertools.count()

ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, 2**31, -(2**63) - 1])
    | st.floats()
    | st.text()
    | st.sampled_from(["\0", "\ud800", "x" * 300, "é" * 256])
    | st.lists(st.floats() | st.text(max_size=3), max_size=2)
)
NAMES = [name for name in (*pages.c.keys(), "colour") if name != "request_id"]
EVENT_NAMES = [name for name in events.c.keys() if name != "event_id"]  # noqa: SIM118


class Database:
    """A store, the thing that writes into it, and what that counts."""

    def __init__(self, url, folder):
        self.store = EventStore(EventsConfig(url=url))
        self.metrics = recorder_metrics(CollectorRegistry())
        self.shipper = Shipper(url, 5.0, folder / "rejected" / "rows.jsonl", self.metrics)

    def rejected(self, table):
        return self.metrics.rejected.labels(table)._value.get()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def kept(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any-row")
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'events.db'}"
    else:
        url = request.getfixturevalue("postgres_server").new_database()
    database = Database(url, folder)
    yield database
    database.shipper.close()
    database.store.close()


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(NAMES), ODD, min_size=1, max_size=3))
def test_any_page_is_stored_or_put_aside(kept, changes):
    odd, good = page(**changes), page()
    before = kept.rejected("pages")
    kept.shipper.ship_lines([encode(Entry("pages", odd)), encode(Entry("pages", good))], 500, replayed=False)
    there = set(kept.store.pages([odd["request_id"], good["request_id"]]))
    assert good["request_id"] in there
    assert (odd["request_id"] in there) == (problem(pages, odd) is None)
    assert kept.rejected("pages") - before == (odd["request_id"] not in there)


@settings(max_examples=80, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(EVENT_NAMES), ODD, min_size=1, max_size=3))
def test_any_event_is_stored_or_put_aside(kept, changes):
    request_id = f"page-{next(_case)}"
    odd, good = click(request_id) | changes, click(request_id)
    before = kept.rejected("events")
    kept.shipper.ship([Entry("events", odd), Entry("events", good)])
    there = {one.event_id for one in kept.store.events([request_id])}
    assert good["event_id"] in there
    assert kept.rejected("events") - before == (problem(events, odd) is not None)
