"""Pages that the judge leaves open: they count as what they may be, so that hiding bad pages promotes nobody."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from taoemb.rollout.measurement.looking import NOTHING
from taoemb.rollout.measurement.measure import measure
from taoemb.rollout.measurement.measured import Measurement, SampleRatio, from_json, to_json
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.slicing import Slicer
from taoemb.rollout.plan import Plan
from taoemb.rollout.statistics.effect import effect_sequence
from taoemb.rollout.verdict import Standing, decide
from taoemb.serving.events.store import EventStore
from tests.rollout.rollout_rows import RELEASES, ROLLOUT, SALT, START, Rows, grade, make_rows, open_store, write
from tests.rollout.test_verdict_rules import LAST, PLAN, measurement, pointing

FOLDER = Path(__file__).parents[2] / "benchmarks" / "rollout"
NOW = START + 100_000
ROLLOUTS = 50


@pytest.fixture(scope="module")
def hidden_grades() -> Iterator[ModuleType]:
    """The benchmark's simulations (benchmarks/rollout/unanswered.py)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import hidden_grades

        yield hidden_grades
    for name in ("hidden_grades", "rollouts", "shop_traffic", "classical"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("way", [1, 3, 4])
def test_equal_arms_are_promoted_no_more_often_whatever_is_hidden(hidden_grades: ModuleType, way: int) -> None:
    """A short form of the benchmark; each bound fails falsely once in 10^6 runs."""
    hide = list(hidden_grades.HIDES)[way]
    found = [hidden_grades.hidden_rollout([way, number], hide, lift=0.0, looks=14) for number in range(ROLLOUTS)]
    assert np.mean([one["hidden"] for one in found]) > 0.008
    assert sum(one["promoted"] for one in found) <= binom.ppf(1 - 1e-6, ROLLOUTS, PLAN.alpha)
    assert sum(one["rolled_back"] for one in found) <= binom.ppf(1 - 1e-6, ROLLOUTS, PLAN.harm_alpha)


def test_dropping_what_is_hidden_would_promote_equal_arms(hidden_grades: ModuleType) -> None:
    hide = "20 % of the candidate's bad pages"
    found = [hidden_grades.hidden_rollout([9, number], hide, 0.0, 24, compare=True) for number in range(12)]
    assert sum(one["dropped"] for one in found) > 6
    assert sum(one["promoted"] for one in found) == 0


def test_a_little_openness_costs_a_little_power(hidden_grades: ModuleType) -> None:
    found = [hidden_grades.hidden_rollout([8, number], 0.005, lift=0.05, looks=24) for number in range(12)]
    assert sum(one["promoted"] for one in found) >= 10


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 0.5),
    percents=st.lists(st.sampled_from([0.05, 0.25, 0.5]), min_size=1, max_size=3),
)
def test_whatever_is_missing_lies_between_the_ends(seed: int, share: float, percents: list[float]) -> None:
    """The ends are those of the two worst cases, and the answer for known values is the usual one."""
    rng = np.random.default_rng(seed)
    n = 300
    y, a_share = rng.random(n), np.repeat(sorted(percents), -(-n // len(percents)))[:n]
    a = rng.random(n) < a_share
    hidden = rng.random(n) < share
    least, most = np.where(hidden, y * rng.random(n), y), np.where(hidden, y + (1 - y) * rng.random(n), y)
    at = np.array([n])
    found = effect_sequence(least, a, a_share, alpha=0.1, at=at, most=most)
    low = effect_sequence(np.where(a, least, most), a, a_share, alpha=0.1, at=at).low
    high = effect_sequence(np.where(a, most, least), a, a_share, alpha=0.1, at=at).high
    assert (found.low[0], found.high[0]) == pytest.approx((low[0], high[0]))
    assert found.low[0] <= found.center[0] <= found.high[0]
    known = effect_sequence(y, a, a_share, alpha=0.1, at=at, most=y)
    usual = effect_sequence(y, a, a_share, alpha=0.1, at=at)
    assert (known.low[0], known.center[0], known.high[0]) == (usual.low[0], usual.center[0], usual.high[0])


def test_the_ends_must_be_in_order_and_bounded() -> None:
    y, a, p = np.array([0.5, 0.6]), np.array([1, 0]), np.array([0.5, 0.5])
    with pytest.raises(ValueError, match="least"):
        effect_sequence(y, a, p, alpha=0.1, most=y - 0.1)
    with pytest.raises(ValueError, match="bounds"):
        effect_sequence(y, a, p, alpha=0.1, most=y + 0.1, bounds=None)
    with pytest.raises(ValueError, match="within"):
        effect_sequence(y, a, p, alpha=0.1, most=y + 0.7)


def measured(store: EventStore, plan: Plan) -> Measurement:
    seen = Observations(ROLLOUT, SALT, plan)
    seen.read(store, NOW)
    return measure(plan, seen, Slicer(plan), RELEASES, NOW, NOTHING)


def rollout_with_open_items(folder: Path, chance: float) -> tuple[Rows, EventStore, EventStore]:
    """Equal arms; then the same with this part of the candidate's bad items left open."""
    rows = make_rows(11, 1500, percents=(50.0,))
    rng = np.random.default_rng(0)
    rows.grades = {one: [value or 0.0 for value in values] for one, values in rows.grades.items()}
    arms = {row["request_id"]: row["assigned"] for row in rows.pages}
    stores = []
    for name in ("answered", "open"):
        (folder / name).mkdir()
        stores.append(open_store(folder / name))
        write(stores[-1], rows)
        grade(stores[-1], rows, list(rows.grades))
        for one, values in rows.grades.items():
            if arms[one] == "candidate":
                rows.grades[one] = [
                    None if value is not None and value < 0.5 and rng.random() < chance else value for value in values
                ]
    return rows, *stores


def test_open_items_widen_the_interval_and_never_help_an_arm(tmp_path: Path) -> None:
    plan = Plan(depth=4, guardrails=())
    _, answered, hidden = rollout_with_open_items(tmp_path, 0.05)
    whole, partly = measured(answered, plan), measured(hidden, plan)
    assert partly.unanswered > 30
    assert partly.graded + partly.unanswered == whole.graded
    for metric in ("item_goodrate", "query_goodrate", "ndcg", "gsb"):
        all_known, some_open = whole.find(metric), partly.find(metric)
        assert some_open.low <= all_known.low + 0.02
        assert some_open.high >= all_known.high - 0.02
        assert some_open.high - some_open.low > all_known.high - all_known.low
    assert partly.find("latency_ms") == whole.find("latency_ms")
    shown = partly.find("item_goodrate")
    assert shown.candidate > whole.find("item_goodrate").candidate, "the answered pages alone look better"
    assert shown.n_control + shown.n_candidate == partly.graded
    assert from_json(to_json(partly)) == partly


def test_a_judge_that_answers_one_arm_more_often_holds_the_rollout(tmp_path: Path) -> None:
    plan = Plan(depth=4, guardrails=(), max_unanswered=0.9)
    _, answered, hidden = rollout_with_open_items(tmp_path, 0.4)
    even, uneven = (decide(plan, Standing(3, 60.0), measured(store, plan)) for store in (answered, hidden))
    assert "answered pages" not in {one.check for one in even.reasons}
    assert pointing(uneven, "answered pages") == "continue"
    text = next(one.text for one in uneven.reasons if one.check == "answered pages")
    assert "answers one arm more often" in text


def test_uneven_answers_hold_and_do_not_roll_back() -> None:
    uneven = SampleRatio(500, 300, 400.0, 1e-9)
    whole = measurement()
    held = replace(whole, answered_ratio=uneven)
    assert decide(PLAN, LAST, held).outcome == "continue"
    assert pointing(decide(PLAN, LAST, held), "answered pages") == "continue"
    assert decide(PLAN, LAST, replace(held, unanswered=0)).outcome == "promote", "all answered: the split decides"
    assert decide(PLAN, LAST, replace(whole, answered_ratio=SampleRatio(400, 390, 395.0, 0.4))).outcome == "promote"
