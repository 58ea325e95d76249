"""What the report says, from real rows in a real events database, without a browser."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.errors import InputError
from taoemb.rollout.measurement import measured
from taoemb.rollout.measurement.measured import Estimate
from taoemb.rollout.measurement.page_metrics import DESCRIPTIONS
from taoemb.rollout.plan import Guardrail, MetricName, Plan
from taoemb.rollout.report.data import ReportData, stored_report
from taoemb.rollout.report.examples import draw
from taoemb.rollout.report.page import guards, render, to_json, write_report
from taoemb.rollout.report.plots import Point, direction, forest_plot, sequence_plot, split_plot
from taoemb.rollout.report.words import WORDS, bounds, change, shown
from taoemb.rollout.state import RolloutState, moved
from taoemb.serving.events.store import EventStore
from tests.rollout.recorded import (
    CANDIDATE,
    CONTROL,
    NAME,
    PLAN,
    PROBES,
    START,
    began,
    ended,
    events_config,
    record,
    running,
)


def data_of(folder: Path, now: RolloutState, looks: int, pages: int) -> ReportData:
    with EventStore(events_config(folder)) as store:
        record(store, now, looks, pages)
        return stored_report(store, NAME, START + 700)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return data_of(tmp_path_factory.mktemp("report"), running(), looks=12, pages=300)


def visible(html: str) -> str:
    """The text that a reader sees."""
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (began(), "Waiting to begin"),
        (running(), "Running: step 2 of 2, 50 % of the shoppers"),
        (ended("Promoted"), "Promoted"),
        (ended("RolledBack"), "Rolled back"),
        (ended("Inconclusive"), "Inconclusive, rolled back"),
        (replace(ended("Inconclusive"), held=True), "Inconclusive, traffic left as it was"),
        (ended("Failed"), "Failed"),
    ],
)
def test_the_first_thing_said_is_where_it_stands(tmp_path: Path, now: RolloutState, says: str) -> None:
    html = render(data_of(tmp_path, now, looks=2, pages=10))
    assert f"<b>{says}</b>" in html
    assert f"<title>{says} – rollout {NAME}</title>" in html


def test_why_is_said_once(data: ReportData) -> None:
    reasons = data.looks[-1].verdict.reasons
    why = "; ".join(reason.text for reason in reasons[:2])
    decided = replace(data, state=moved(data.state, "Promoting", why, START + 600))
    by_hand = replace(
        data, state=moved(data.state, "Promoting", "promotion asked for: the board wants it", START + 600)
    )
    verdict = re.compile(r'<section class="verdict.*?</section>', re.DOTALL)
    [shown_once] = verdict.findall(render(decided))
    assert visible(shown_once).count(reasons[1].text) == 1
    [asked] = verdict.findall(render(by_hand))
    assert "the board wants it" in asked


def test_a_rollout_without_any_data_has_a_report(tmp_path: Path) -> None:
    text = visible(render(data_of(tmp_path, began(), looks=0, pages=0)))
    assert text.count("Nothing is measured yet.") == 3
    assert "No query has graded pages of both arms yet." in text


def test_the_numbers_are_the_last_look_s(data: ReportData) -> None:
    last = data.looks[-1].measurement.find("item_goodrate")
    assert last is not None
    assert last.effect is not None
    text = visible(render(data))
    assert f"{change(last.effect, 'item_goodrate')} {bounds(last)}" in text
    assert f"{last.n_control:,} + {last.n_candidate:,}" in text
    for reason in data.looks[-1].verdict.reasons[:2]:
        assert reason.text in text


def test_pages_are_counted_by_arm(data: ReportData) -> None:
    assert [(arm.release, arm.assigned, arm.served, arm.fallbacks) for arm in data.arms] == [
        (CONTROL, 150, 150, 0),
        (CANDIDATE, 150, 150, 0),
    ]
    assert data.arms[0].collections == ("taoemb_0123",)


def test_examples_show_graded_pages_of_both_arms(data: ReportData, tmp_path: Path) -> None:
    assert len(data.examples) > 10
    for example in data.examples:
        for page in (example.control, example.candidate):
            assert len(page.items) == PLAN.depth
            good = sum(item.relevance >= PLAN.good_relevance for item in page.items)
            assert page.good == pytest.approx(good / PLAN.depth)
    again = data_of(tmp_path, running(), looks=1, pages=300)
    assert again.examples == data.examples, "drawn by hash, so the same each time"


def test_examples_are_sorted_into_wins_losses_and_ties(data: ReportData) -> None:
    drawn = draw(data.examples, len(data.examples))
    assert sum(map(len, drawn.values())) == len(data.examples)
    assert all(one.candidate.good > one.control.good for one in drawn["wins"])
    assert all(one.candidate.good < one.control.good for one in drawn["losses"])
    assert all(one.candidate.good == one.control.good for one in drawn["ties"])
    assert {kind: len(some) for kind, some in draw(data.examples, 2).items()} == dict.fromkeys(drawn, 2)


def test_no_text_of_shoppers_or_catalogues_becomes_markup(data: ReportData) -> None:
    everything = draw(data.examples, 3)
    assert any(one.query in PROBES for kind in everything.values() for one in kind)
    html = render(data)
    for probe in PROBES[:4]:
        assert probe not in html
    assert "<script" not in html
    assert "{{ 7 * 7 }}" in html or "{{ 7 * 7 }}" not in [one.query for kind in everything.values() for one in kind]


def test_a_slow_judge_is_said(data: ReportData) -> None:
    last = data.looks[-1]
    late = replace(last, measurement=replace(last.measurement, waiting=1234))
    assert "1,234 wait for the judge" in visible(render(replace(data, looks=[*data.looks[:-1], late])))


def test_interleaved_pages_have_no_sides(data: ReportData) -> None:
    preference = Estimate("preference", "all", 200, 200, None, None, 0.12, 0.03, 0.21, 0.1)
    last = data.looks[-1]
    look = replace(last, measurement=replace(last.measurement, estimates=[preference]))
    plan = Plan(design="interleaving", metric="preference", guardrails=())
    text = visible(render(replace(data, plan=plan, looks=[look], examples=[])))
    assert "Share of the shoppers who see mixed pages." in text
    assert "Interleaved pages mix both arms" in text
    assert "+0.120 [+0.030, +0.210]" in text
    assert "The plan has none." in text


def test_the_files_are_written_together(data: ReportData, tmp_path: Path) -> None:
    page = write_report(data, tmp_path / "out")
    assert page.name == "report.html"
    tree = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert tree == json.loads(json.dumps(to_json(data)))
    assert len(tree["looks"]) == 12
    read_back = [measured.from_json(look["measurement"]) for look in tree["looks"]]
    assert read_back == [look.measurement for look in data.looks]


def test_an_unknown_rollout_is_named(tmp_path: Path) -> None:
    with EventStore(events_config(tmp_path)) as store:
        record(store, began(), 0, 0)
        with pytest.raises(InputError, match=f"'other' is not in this events database; it knows: {NAME}"):
            stored_report(store, "other", START)


def estimate(low: float, high: float, higher: bool, n: int = 100, slice: str = "all") -> Estimate:
    return Estimate(
        "item_goodrate" if higher else "error_rate", slice, n, n, 0.5, 0.5, (low + high) / 2, low, high, 0.05, higher
    )


@pytest.mark.parametrize(
    ("low", "high", "higher", "kind"),
    [
        (-0.05, 0.2, True, "pass"),
        (-0.15, 0.2, True, ""),
        (-0.3, -0.2, True, "fail"),
        (-0.2, 0.05, False, "pass"),
        (-0.2, 0.15, False, ""),
        (0.2, 0.3, False, "fail"),
    ],
)
def test_guardrails_stand_as_the_verdict_reads_them(low: float, high: float, higher: bool, kind: str) -> None:
    one = estimate(low, high, higher)
    plan = Plan(guardrails=(Guardrail(metric=one.metric, margin=0.1),))  # type: ignore[arg-type]
    [guard] = guards(plan, [one])
    assert guard.kind == kind


def test_small_slices_are_not_judged() -> None:
    plan = Plan(guardrails=(Guardrail(metric="item_goodrate", slice="*", margin=0.1),), min_slice_units=50)
    found = guards(plan, [estimate(-0.5, -0.4, True), estimate(-0.5, -0.4, True, n=20, slice="rare")])
    assert [(guard.slice, guard.text) for guard in found] == [("all", "broken"), ("rare", "too few units to judge")]


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 3)), min_size=1, max_size=700),
    st.one_of(st.none(), st.floats(-1, 1)),
    st.integers(0, 700),
)
def test_sequences_stay_inside_their_picture(
    steps: list[tuple[float, float]], goal: float | None, unknown: int
) -> None:
    points = [Point(float(at), effect, effect - wide, effect + wide) for at, (effect, wide) in enumerate(steps)]
    points = [replace(p, low=-float("inf"), high=float("inf")) if p.at < unknown else p for p in points]
    plot = sequence_plot(points, goal, 0.0, float(len(points)))
    corners = [tuple(map(float, corner.split(","))) for corner in plot.band.split()]
    assert all(plot.left <= x <= plot.right and 0 <= y <= plot.height for x, y in corners)
    assert len(corners) <= 2 * 301
    assert plot.last is not None
    assert 0 <= plot.last[1] <= plot.height
    assert plot.last[0] == max(x for x, _ in corners), "the latest look is never thinned out"


@given(st.lists(st.floats(0, 100), max_size=12))
def test_splits_stay_inside_their_picture(percents: list[float]) -> None:
    plot = split_plot([(float(at), percent) for at, percent in enumerate(percents)], 0.0, 12.0)
    corners = [tuple(map(float, corner.split(","))) for corner in plot.area.split()]
    assert all(plot.left <= x <= plot.right and 0 <= y <= plot.height for x, y in corners)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=40), st.sampled_from([1.0, 100.0]))
def test_forests_stay_inside_their_picture(effects: list[tuple[float, float]], scale: float) -> None:
    some = [estimate(effect - wide, effect + wide, True, slice=f"s{at}") for at, (effect, wide) in enumerate(effects)]
    plot = forest_plot([*some, estimate(-float("inf"), float("inf"), True)], scale)
    assert plot is not None
    assert len(plot.rows) == len(some)
    for row in plot.rows:
        assert plot.left <= row.x_low <= row.x <= row.x_high <= plot.right
        assert row.y < plot.height


def test_nothing_known_draws_no_forest() -> None:
    assert forest_plot([estimate(-float("inf"), float("inf"), True)], 1.0) is None


def test_better_and_worse_follow_the_metric() -> None:
    assert direction(estimate(0.1, 0.2, True)) == "up"
    assert direction(estimate(0.1, 0.2, False)) == "down"
    assert direction(estimate(-0.1, 0.2, False)) == "even"


def test_numbers_have_units() -> None:
    assert shown(0.62, "item_goodrate") == "62.0 %"
    assert shown(18.25, "latency_ms") == "18.2 ms"
    assert change(-0.067, "item_goodrate") == "−6.70 points"
    assert change(float("inf"), "ndcg") == "∞"
    assert bounds(estimate(-0.1, float("inf"), True)) == "[−10.00, ∞]"


def test_every_metric_of_a_plan_has_a_name() -> None:
    assert set(WORDS) == set(get_args(MetricName)) == set(DESCRIPTIONS)
