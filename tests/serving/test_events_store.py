"""The reading side against a model in plain Python, and rollouts that two processes want to move."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.config import EventsConfig
from taoemb.errors import InputError, TaoembError
from taoemb.serving.events import store as store_module
from taoemb.serving.events.rows import Grade, PageKind
from taoemb.serving.events.store import EventStore
from tests.serving.event_rows import click, page


@pytest.fixture
def store(database):
    with EventStore(EventsConfig(url=database)) as opened:
        yield opened


def batches(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def random_pages(seed, count=300):
    rng = random.Random(seed)
    return [
        page(
            rollout=rng.choice(["summer", "winter", ""]),
            unit=f"user-{rng.randrange(60)}",
            assigned=rng.choice(["control", "candidate"]),
            forced=rng.random() < 0.2,
            status=rng.choice(["ok", "empty"]),
            at=rng.random(),
        )
        for _ in range(count)
    ]


def test_a_unit_is_measured_on_its_first_page_that_was_not_forced(store, monkeypatch):
    monkeypatch.setattr(store_module, "_WINDOW", 7)
    rows = random_pages(1)
    for batch in batches(rows, 11):
        store.add_pages(batch)
        store.add_pages(batch[:3])  # a replay
    for rollout in ("summer", "winter"):
        first = {}
        for row in rows:
            if row["rollout"] == rollout and not row["forced"]:
                first.setdefault(row["unit"], row["request_id"])
        measured = list(store.unit_pages(rollout))
        assert [one.request_id for one in measured] == list(first.values())
        assert store.count_units(rollout) == len(first)
        assert [one.number for one in measured] == sorted(one.number for one in measured)
    assert store.count_units("") == 0


def test_reading_on_gives_what_came_since(store, monkeypatch):
    monkeypatch.setattr(store_module, "_WINDOW", 5)
    seen, last = [], 0
    for batch in batches(random_pages(2), 23):
        store.add_pages(batch)
        news = list(store.unit_pages("summer", last))
        seen += news
        last = seen[-1].number if seen else 0
    assert seen == list(store.unit_pages("summer"))


def test_a_reader_misses_no_row_of_writers_that_write_at_once(store):
    rows = random_pages(5, 600)

    def write(share):
        for batch in batches(share, 4):
            store.add_pages(batch)

    seen, last = [], 0
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, rows[place::3]) for place in range(3)]
        while True:
            over = all(writer.done() for writer in writers)
            news = list(store.all_pages("summer", last))
            seen += news
            last = seen[-1].number if seen else 0
            if over:
                break
    assert [writer.exception() for writer in writers] == [None] * 3
    assert {one.request_id for one in seen} == {row["request_id"] for row in rows if row["rollout"] == "summer"}
    assert seen == list(store.all_pages("summer"))


def test_pages_come_back_as_they_went_in(store):
    rows = random_pages(3, 40)
    store.add_pages(rows)
    back = store.pages([row["request_id"] for row in rows] + ["absent"])
    assert len(back) == len(rows)
    for row in rows:
        assert row.items() <= back[row["request_id"]]._asdict().items()
    ours = [row for row in rows if row["rollout"] == "summer"]
    assert [one.items for one in store.all_pages("summer", items=True)] == [row["items"] for row in ours]
    assert {one.items for one in store.all_pages("summer")} == {None}
    assert [one.request_id for one in store.latest_pages("summer", 3)] == [row["request_id"] for row in ours[:-4:-1]]


def test_counts_by_kind_add_up_over_looks(store):
    rows = random_pages(4)
    counted, last = Counter(), 0
    for batch in batches(rows, 70):
        store.add_pages(batch)
        looked = store.count_pages("winter", last)
        counted.update(looked.pages)
        last = looked.last
    kinds = (PageKind(*(row[name] for name in PageKind._fields)) for row in rows if row["rollout"] == "winter")
    assert counted == Counter(kinds)
    assert store.count_pages("winter", last) == ({}, last)


def test_outcomes_count_the_events_of_measured_pages(store, monkeypatch):
    monkeypatch.setattr(store_module, "_WINDOW", 2)
    store.add_pages(pages := [page(), page(unit="again"), page(unit="again"), page(forced=True), page()])
    ids = [row["request_id"] for row in pages]
    store.add_events(
        [click(ids[0], at=9.0), click(ids[0], at=3.0), click(ids[0], type="impression")]
        + [click(ids[1], type="purchase", value=2.5), click(ids[1], type="purchase", value=1.5)]
        + [click(one) for one in (ids[2], ids[3])]
    )
    found = list(store.outcomes("summer", ("click", "purchase")))
    assert [(one.request_id, one.type, one.times) for one in found] == [
        (ids[0], "click", 2),
        (ids[1], "purchase", 2),
    ]
    assert found[0].first_at == 3.0
    assert list(store.outcomes("summer", ("click", "purchase"), after=found[0].number)) == found[1:]
    assert {one.request_id for one in store.events(ids[:2])} == set(ids[:2])


def test_values_that_add_up_to_no_number_are_read_all_the_same(store):
    """Two of them can stand in a database that an earlier gateway wrote; PostgreSQL's sum of them is an error."""
    store.add_pages([row := page()])
    store.add_events([click(row["request_id"], type="purchase", value=1.7e308) for _ in range(2)])
    assert [one.times for one in store.outcomes("summer", ("purchase",))] == [2]


def test_the_first_grade_of_a_source_stays(store):
    store.add_pages(pages := [page(), page(), page(rollout="winter")])
    first, second, other = (row["request_id"] for row in pages)
    store.add_grades([Grade(second, "judge", [0.5, None], 1.0), Grade(first, "judge", [1.0], 1.0)])
    store.add_grades([Grade(first, "judge", [0.0], 2.0), Grade(first, "human:ann", [0.0], 2.0)])
    store.add_grades([Grade(other, "judge", [0.25], 2.0)])
    by_judge = store.grades("summer", "judge")
    assert by_judge == [Grade(first, "judge", [1.0], 1.0), Grade(second, "judge", [0.5, None], 1.0)]
    assert len(store.grades("summer")) == 3
    assert [one.request_id for one in store.grades("summer", "judge", after=1)] == [second]
    assert {one.request_id for one in store.grades_of([first, other], "judge")} == {first, other}


def test_a_stale_writer_of_a_rollout_is_refused(store):
    made = store.rollouts.create("summer", {"alpha": 0.05}, {"phase": "Pending"}, 1.0)
    assert store.rollouts.read("summer") == made
    moved = store.rollouts.update(made, {"phase": "Deploying"}, 2.0)
    with pytest.raises(TaoembError, match="another process moved it"):
        store.rollouts.update(made, {"phase": "Failed"}, 3.0)
    assert store.rollouts.read("summer") == moved
    assert (moved.version, moved.state, moved.plan) == (2, {"phase": "Deploying"}, {"alpha": 0.05})
    with pytest.raises(InputError, match="there already"):
        store.rollouts.create("summer", {}, {}, 4.0)
    assert store.rollouts.read("winter") is None
    assert store.rollouts.names() == ["summer"]


def test_decisions_are_kept_in_order(store):
    for look in range(3):
        store.rollouts.decide("summer", float(look), {"outcome": "continue", "reasons": []}, {"pages": look})
    store.rollouts.decide("winter", 9.0, {}, {})
    kept = store.rollouts.decisions("summer")
    assert [one.measurement["pages"] for one in kept] == [0, 1, 2]
    assert store.rollouts.decisions("summer", after=kept[0].number) == kept[1:]
    assert store.rollouts.last_decision("summer") == kept[-1]
    assert store.rollouts.last_decision("autumn") is None


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60)
JSON_TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20) | st.just("a\0b")
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
ITEM = st.fixed_dictionaries({"item_id": JSON_TEXT, "score": NUMBER, "title": JSON_TEXT | st.none()})


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_row_comes_back_as_it_went_in(round_trip_store, data):
    changes = st.fixed_dictionaries(
        {"query": TEXT, "unit": TEXT, "filter": TEXT, "total_ms": NUMBER, "items": st.lists(ITEM, max_size=3)}
    )
    row = page(**data.draw(changes))
    happened = click(row["request_id"], item_id=data.draw(TEXT | st.none()), value=data.draw(NUMBER | st.none()))
    round_trip_store.add_pages([row])
    round_trip_store.add_events([happened])
    assert row.items() <= round_trip_store.pages([row["request_id"]])[row["request_id"]]._asdict().items()
    (back,) = round_trip_store.events([row["request_id"]])
    assert happened.items() <= back._asdict().items()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def round_trip_store(request, tmp_path_factory):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('round-trip') / 'events.db'}"
    else:
        url = request.getfixturevalue("postgres_server").new_database()
    with EventStore(EventsConfig(url=url)) as opened:
        yield opened
