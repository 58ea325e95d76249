"""The measurement against a plain reading of the same rows; stopping, lagging and restarting change nothing."""

import math
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.rollout.measurement.looking import NOTHING
from taoemb.rollout.measurement.measure import measure, mismatches
from taoemb.rollout.measurement.measured import Measurement, from_json, to_json
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.page_metrics import graded_values
from taoemb.rollout.measurement.paired import interleaved, side_by_side
from taoemb.rollout.measurement.sampler import GRADED_SHARE, is_sampled
from taoemb.rollout.measurement.slicing import Slicer, same_query
from taoemb.rollout.plan import Plan
from taoemb.serving.events.rows import PageKind
from taoemb.serving.events.store import EventStore
from tests.rollout.rollout_rows import (
    CANDIDATE,
    CONTROL,
    RELEASES,
    ROLLOUT,
    SALT,
    START,
    Rows,
    grade,
    make_rows,
    open_store,
    write,
)
from tests.serving.event_rows import click, page

PLAN = Plan.model_validate(
    {
        "slices": [{"name": "negation", "pattern": r"\bwithout\b"}, {"name": "rugs", "pattern": "RUG"}],
        "depth": 3,
        "event_window_s": 100,
        "sample": 0.8,
        "guardrails": [{"metric": "item_goodrate", "slice": "*", "margin": 0.1}],
    }
)
NOW = START + 100_000


def read(store: EventStore, plan: Plan = PLAN, now: float = NOW) -> Observations:
    seen = Observations(ROLLOUT, SALT, plan)
    seen.read(store, now)
    return seen


def look(seen: Observations, plan: Plan = PLAN, now: float = NOW) -> Measurement:
    return measure(plan, seen, Slicer(plan), RELEASES, now, NOTHING)


def first_pages(rows: Rows) -> list[dict]:
    """Each unit's first page that nobody forced."""
    found: dict[str, dict] = {}
    for row in rows.pages:
        if not row["forced"]:
            found.setdefault(row["unit"], row)
    return list(found.values())


def sampled(row: dict, plan: Plan = PLAN) -> bool:
    return is_sampled(SALT, row["unit"], row["assigned"] == "candidate", row["percent"] / 100, plan.sample)


def page_value(metric: str, row: dict, rows: Rows) -> float | None:
    """What the documentation says that a page is worth; None: this metric does not look at it."""
    happened = {event["type"] for event in rows.events if in_time(event, row)}
    match metric:
        case "error_rate":
            return float(row["status"] == "error" or row["served"] != row["assigned"])
        case "empty_rate":
            return float(row["status"] == "empty")
        case "latency_ms":
            return row["total_ms"]
        case "click_rate":
            return float("click" in happened)
        case "conversion_rate":
            return float("purchase" in happened)
    relevance = rows.grades.get(row["request_id"], [])[:3]
    if not sampled(row) or None in relevance:
        return None
    if metric == "item_goodrate":
        return sum(value >= PLAN.good_relevance for value in relevance) / 3
    return float(sum(value >= PLAN.good_relevance for value in relevance) >= 1.5)


def in_time(event: dict, row: dict) -> bool:
    return event["request_id"] == row["request_id"] and event["at"] <= row["at"] + 100


@pytest.fixture(scope="module")
def measured_rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, EventStore, Measurement]:
    rows = make_rows(seed=3, count=900)
    store = open_store(tmp_path_factory.mktemp("rows"))
    write(store, rows)
    grade(store, rows, list(rows.grades))
    return rows, store, look(read(store))


METRICS = ["error_rate", "empty_rate", "latency_ms", "click_rate", "conversion_rate", "item_goodrate", "query_goodrate"]


@pytest.mark.parametrize("metric", METRICS)
def test_counts_and_means_are_those_of_the_first_pages(
    metric: str, measured_rows: tuple[Rows, EventStore, Measurement]
) -> None:
    rows, _, found = measured_rows
    values: dict[str, list[float]] = defaultdict(list)
    for row in first_pages(rows):
        value = page_value(metric, row, rows)
        if value is not None:
            values[row["assigned"]].append(value)
    estimate = found.find(metric)
    assert estimate is not None
    assert (estimate.n_control, estimate.n_candidate) == (len(values["control"]), len(values["candidate"]))
    assert estimate.control == pytest.approx(np.mean(values["control"]))
    assert estimate.candidate == pytest.approx(np.mean(values["candidate"]))
    assert estimate.low <= estimate.effect <= estimate.high
    assert len(values["candidate"]) > 20


def test_slices_hold_the_queries_that_match(measured_rows: tuple[Rows, EventStore, Measurement]) -> None:
    rows, _, found = measured_rows
    for name, word in (("negation", "without"), ("rugs", "rug")):
        mine = [row for row in first_pages(rows) if word in row["query"].lower()]
        counted = [row for row in mine if page_value("item_goodrate", row, rows) is not None]
        estimate = found.find("item_goodrate", name)
        assert estimate.n_control + estimate.n_candidate == len(counted) > 20


def test_the_whole_is_counted(measured_rows: tuple[Rows, EventStore, Measurement]) -> None:
    rows, _, found = measured_rows
    units = first_pages(rows)
    drawn = [row for row in units if sampled(row)]
    assert found.pages == sum(not row["forced"] for row in rows.pages)
    assert found.sample_ratio.n_control + found.sample_ratio.n_candidate == len(units)
    assert found.sample_ratio.expected_candidate == pytest.approx(sum(row["percent"] / 100 for row in units))
    assert found.unanswered == sum(None in rows.grades.get(row["request_id"], [])[:3] for row in drawn) > 0
    assert found.graded + found.unanswered == len(drawn)
    assert (found.waiting, found.mismatches) == (0, 0)
    assert from_json(to_json(found)) == found


def test_graded_units_are_even_whatever_the_split_is() -> None:
    rows = make_rows(seed=5, count=6000, percents=(5.0,), users=100_000)
    drawn = [row["assigned"] for row in first_pages(rows) if sampled(row)]
    candidates = drawn.count("candidate")
    assert abs(candidates - GRADED_SHARE * len(drawn)) < 4 * math.sqrt(len(drawn)) / 2
    assert candidates > 150, "nearly all of the smaller arm"
    assert not is_sampled(SALT, "u1", True, 1.0, 1.0)


@settings(max_examples=12, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_reading_in_parts_gives_what_reading_at_once_gives(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, seed: int
) -> None:
    rows = make_rows(seed, count=120, users=60)
    store = open_store(tmp_path_factory.mktemp("parts"))
    cuts = sorted(data.draw(st.lists(st.integers(0, 120), max_size=4)))
    seen = Observations(ROLLOUT, SALT, PLAN)
    for start, end in zip([0, *cuts], [*cuts, 120], strict=True):
        write(store, rows, start, end)
        seen.read(store, NOW)
        share = data.draw(st.integers(0, len(seen.waiting())))
        grade(store, rows, [one.request_id for one in seen.waiting()[:share]])
        seen.read_grades(store)
    assert to_json(look(seen)) == to_json(look(read(store))), "another process measures the same"
    store.close()


def test_a_page_that_waits_for_the_judge_holds_up_those_behind_it(tmp_path: Path) -> None:
    """Else a judge that is slow on one arm's pages would decide which units count."""
    rows = make_rows(seed=1, count=200)
    store = open_store(tmp_path)
    write(store, rows)
    seen = read(store)
    waiting = [one.request_id for one in seen.waiting()]
    grade(store, rows, waiting[:5] + waiting[6:])
    seen.read_grades(store)
    assert [one.request_id for one in seen.waiting()] == [waiting[5]]
    before = look(seen)
    assert before.waiting == 1
    grade(store, rows, [waiting[5]])
    seen.read_grades(store)
    after = look(seen)
    assert after.graded > before.graded + 3
    assert after.find("latency_ms") == before.find("latency_ms"), "what needs no judge does not wait"


def test_grades_of_another_judge_and_of_people_do_not_mix_in(tmp_path: Path) -> None:
    rows = make_rows(seed=2, count=200)
    store = open_store(tmp_path)
    write(store, rows)
    grade(store, rows, list(rows.grades))
    alone = to_json(look(read(store)))
    for source in ("judge-2", "human:reviewers"):
        store.add_grades([one._replace(source=source, relevance=[1.0, 1.0, 1.0]) for one in store.grades(ROLLOUT)])
    seen = read(store)
    assert seen.source == "judge-1"
    assert to_json(look(seen)) == alone


def test_young_pages_wait_for_their_events(tmp_path: Path) -> None:
    rows = make_rows(seed=4, count=300)
    store = open_store(tmp_path)
    write(store, rows)
    now = START + 250
    found = look(read(store, now=now), now=now)
    old = [row for row in first_pages(rows) if row["at"] <= now - 100]
    estimate = found.find("click_rate")
    assert estimate.n_control + estimate.n_candidate == len(old)
    everyone = found.find("latency_ms")
    assert everyone.n_control + everyone.n_candidate == len(first_pages(rows))


def test_nothing_was_seen_yet(tmp_path: Path) -> None:
    found = look(read(open_store(tmp_path)))
    estimate = found.find("item_goodrate")
    assert (estimate.effect, estimate.low, estimate.high) == (None, -math.inf, math.inf)
    assert found.sample_ratio.p_value == 1


def test_side_by_side_pairs_pages_of_one_query_in_order(tmp_path: Path) -> None:
    rows = make_rows(seed=6, count=900)
    rows.grades = {one: [value or 0.0 for value in values] for one, values in rows.grades.items()}
    store = open_store(tmp_path)
    write(store, rows)
    grade(store, rows, list(rows.grades))
    seen = read(store)
    graded = [row for row in first_pages(rows) if page_value("item_goodrate", row, rows) is not None]
    by_query: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in graded:
        by_query[same_query(row["query"])][row["assigned"]].append(page_value("item_goodrate", row, rows))
    expected = sorted(
        float(np.sign(b - a))
        for both in by_query.values()
        for a, b in zip(both["control"], both["candidate"], strict=False)
    )
    settled = np.flatnonzero(seen.flag("sampled") & ~np.isnan(seen.number("item_goodrate")))
    pairs = side_by_side(seen, settled.tolist())
    assert sorted(pairs.values) == expected
    assert len(expected) > 20
    assert {"red rug"} == {same_query(text) for text in ("red rug", "Red  Rug ")}
    assert list(pairs.rows) == sorted(pairs.rows)
    gsb = look(seen, PLAN.model_copy(update={"metric": "gsb"})).find("gsb")
    assert gsb.effect == pytest.approx(np.mean(expected))


def test_interleaved_pages_prefer_who_got_more_clicks(tmp_path: Path) -> None:
    store, rng = open_store(tmp_path), random.Random(0)
    plan = Plan.model_validate({"design": "interleaving", "metric": "preference", "event_window_s": 100})
    items = [{"item_id": f"i{n}", "team": "candidate" if n % 2 else "control"} for n in range(6)]
    expected = []
    for number in range(60):
        row = page(rollout=ROLLOUT, at=START + number, percent=50.0, assigned="candidate", served="interleaved")
        row |= {"release": "", "collection": "", "items": items, "unit": f"u{number}"}
        clicked = rng.sample(range(6), rng.randrange(4))
        store.add_pages([row])
        store.add_events([click(row["request_id"], item_id=f"i{n}", at=row["at"] + 1) for n in clicked])
        store.add_events([click(row["request_id"], item_id="i1", at=row["at"] + 101)])  # too late to count
        wins = sum(1 if n % 2 else -1 for n in clicked)
        expected.append(float(np.sign(wins)))
    seen = read(store, plan)
    preferences = interleaved(seen, store, np.arange(len(seen)), plan.event_window_s)
    assert preferences.values.tolist() == expected
    found = measure(plan, seen, Slicer(plan), RELEASES, NOW, preferences).find("preference")
    assert found.effect == pytest.approx(np.mean(expected))


@given(st.lists(st.floats(0, 1), max_size=8), st.integers(0, 3))
def test_page_values_are_shares(relevance: list[float], empty: int) -> None:
    places = len(relevance) + empty or 1
    goodrate, query, ndcg = graded_values(relevance, places, 0.6)
    assert 0 <= goodrate <= 1
    assert 0 <= ndcg <= 1 + 1e-9
    assert query == (goodrate >= 0.5)
    better = graded_values([min(1.0, value + 0.1) for value in relevance], places, 0.6)
    assert all(new >= old - 1e-9 for new, old in zip(better, (goodrate, query, ndcg), strict=True))


def test_a_page_of_excellent_items_is_worth_all() -> None:
    assert graded_values([1.0] * 5, 5, 0.6) == pytest.approx((1.0, 1.0, 1.0))
    assert graded_values([], 5, 0.6) == (0.0, 0.0, 0.0)


def test_pages_that_mix_releases_are_counted() -> None:
    def kind(served: str, release: str, collection: str) -> PageKind:
        return PageKind("control", served, False, "ok", release, collection)

    right = {kind("control", CONTROL, "a"): 50, kind("candidate", CANDIDATE, "b"): 40, kind("none", "", ""): 3}
    assert mismatches(right, RELEASES) == 0
    assert mismatches(right | {kind("interleaved", "", ""): 9}, RELEASES) == 0
    assert mismatches(right | {kind("control", CONTROL, "b"): 2}, RELEASES) == 2
    assert mismatches(right | {kind("candidate", CONTROL, "a"): 4}, RELEASES) == 4
