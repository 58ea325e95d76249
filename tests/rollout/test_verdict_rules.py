import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taoemb.rollout.measurement import measured
from taoemb.rollout.measurement.measured import Estimate, Measurement, SampleRatio
from taoemb.rollout.plan import LOWER_IS_BETTER, Guardrail, Plan, Step
from taoemb.rollout.statistics.multiplicity import checks, levels
from taoemb.rollout.verdict import Standing, Verdict, decide, to_json

PLAN = Plan(
    steps=(Step(percent=5, min_units=100), Step(percent=50, min_units=100, min_seconds=60)),
    guardrails=(
        Guardrail(metric="error_rate", margin=0.01),
        Guardrail(metric="latency_ms", margin=20),
        Guardrail(metric="item_goodrate", slice="*", margin=0.1),
    ),
    step_timeout_s=1000,
)
FIRST, LAST = Standing(0, 100.0), Standing(1, 100.0)
SLICES = ("negation", "question")
GOOD_RATIO = SampleRatio(500, 500, 500.0, 0.4)


def estimate(metric: str, slice: str, gain: float, half: float, units: int = 1000) -> Estimate:
    """`gain` and `half` the interval's width towards better, whichever way that is."""
    effect = -gain if metric in LOWER_IS_BETTER else gain
    return Estimate(
        metric=metric,
        slice=slice,
        n_control=units // 2,
        n_candidate=units - units // 2,
        control=0.5,
        candidate=0.5 + effect,
        effect=effect,
        low=effect - half,
        high=effect + half,
        alpha=0.06,
        higher_is_better=metric not in LOWER_IS_BETTER,
    )


def measurement(**changes: object) -> Measurement:
    """One that lets a candidate be promoted, with changes: of estimates as METRIC or METRIC_on_SLICE, or of fields."""
    estimates = {
        "item_goodrate": estimate("item_goodrate", "all", 0.05, 0.02),
        "error_rate": estimate("error_rate", "all", 0.0, 0.005),
        "latency_ms": estimate("latency_ms", "all", -2.0, 5.0),
        **{f"item_goodrate_on_{one}": estimate("item_goodrate", one, 0.03, 0.05, 200) for one in SLICES},
    }
    fields = {name: value for name, value in changes.items() if name not in estimates}
    estimates |= {name: value for name, value in changes.items() if name in estimates}
    whole = Measurement(0.0, 2000, 1000, 10, [one for one in estimates.values() if one is not None], GOOD_RATIO)
    return replace(whole, **fields)


def pointing(verdict: Verdict, check: str) -> str:
    return next(reason.points_to for reason in verdict.reasons if reason.check == check)


def test_all_is_well_promotes_at_the_last_step_only() -> None:
    assert decide(PLAN, LAST, measurement()).outcome == "promote"
    first = decide(PLAN, FIRST, measurement())
    assert (first.outcome, first.next_step) == ("continue", True)


@pytest.mark.parametrize(
    ("changes", "check", "outcome"),
    [
        ({"mismatches": 1}, "releases", "rollback"),
        ({"sample_ratio": SampleRatio(500, 300, 400.0, 1e-6)}, "sample ratio", "rollback"),
        ({"item_goodrate": estimate("item_goodrate", "all", -0.05, 0.02)}, "item_goodrate", "rollback"),
        ({"error_rate": estimate("error_rate", "all", -0.05, 0.02)}, "error_rate", "rollback"),
        ({"latency_ms": estimate("latency_ms", "all", -60, 20)}, "latency_ms", "rollback"),
        (
            {"item_goodrate_on_negation": estimate("item_goodrate", "negation", -0.3, 0.1, 200)},
            "item_goodrate on negation",
            "rollback",
        ),
    ],
)
@pytest.mark.parametrize("standing", [FIRST, LAST])
def test_harm_rolls_back_at_any_step(changes: dict, check: str, outcome: str, standing: Standing) -> None:
    found = decide(PLAN, standing, measurement(**changes))
    assert (found.outcome, pointing(found, check)) == (outcome, outcome)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"item_goodrate": estimate("item_goodrate", "all", 0.01, 0.02)}, "item_goodrate"),
        ({"item_goodrate": None}, "item_goodrate"),
        ({"error_rate": estimate("error_rate", "all", 0.0, 0.02)}, "error_rate"),
        ({"error_rate": None}, "error_rate"),
        (
            {"item_goodrate_on_question": estimate("item_goodrate", "question", 0.0, 0.2, 60)},
            "item_goodrate on question",
        ),
        ({"units_in_step": 99}, "units"),
        ({"unanswered": 300}, "unanswered"),
    ],
)
def test_what_is_not_shown_yet_is_waited_for(changes: dict, check: str) -> None:
    found = decide(PLAN, LAST, measurement(**changes))
    assert (found.outcome, pointing(found, check)) == ("continue", "continue")


def test_a_step_is_held_for_its_time() -> None:
    assert decide(PLAN, Standing(1, 59.0), measurement()).outcome == "continue"
    assert decide(PLAN, Standing(1, 60.0), measurement()).outcome == "promote"


def test_the_next_step_needs_no_proof_but_its_minimum() -> None:
    unknown = measurement(
        item_goodrate=estimate("item_goodrate", "all", 0.0, 0.3), error_rate=estimate("error_rate", "all", 0.0, 0.2)
    )
    assert decide(PLAN, FIRST, unknown).next_step
    assert not decide(PLAN, FIRST, replace(unknown, units_in_step=50)).next_step
    assert not decide(PLAN, FIRST, replace(unknown, unanswered=500)).next_step


def test_a_step_that_lasts_too_long_ends_undecided_unless_it_may_go_on() -> None:
    waiting = measurement(item_goodrate=estimate("item_goodrate", "all", 0.01, 0.02))
    assert decide(PLAN, Standing(1, 1001.0), waiting).outcome == "inconclusive"
    assert decide(PLAN, Standing(1, 1001.0), measurement()).outcome == "promote"


def test_small_slices_are_shown_and_not_judged() -> None:
    few = estimate("item_goodrate", "negation", -0.3, 0.05, PLAN.min_slice_units - 1)
    found = decide(PLAN, LAST, measurement(item_goodrate_on_negation=few))
    assert found.outcome == "promote"
    assert "not judged" in next(one.text for one in found.reasons if one.check == "item_goodrate on negation")


def test_open_pages_silence_the_judges_metrics_and_no_others() -> None:
    bad = estimate("item_goodrate", "all", -0.3, 0.05)
    assert decide(PLAN, LAST, measurement(item_goodrate=bad, unanswered=900)).outcome == "continue"
    failing = estimate("error_rate", "all", -0.3, 0.05)
    assert decide(PLAN, LAST, measurement(error_rate=failing, unanswered=900)).outcome == "rollback"


@pytest.mark.parametrize(
    ("goal", "margin", "gain", "outcome"),
    [
        ("superiority", 0.0, 0.03, "promote"),
        ("superiority", 0.02, 0.03, "continue"),
        ("superiority", 0.06, 0.03, "inconclusive"),
        ("superiority", 0.06, -0.03, "rollback"),
        ("non-inferiority", 0.03, 0.0, "promote"),
        ("non-inferiority", 0.03, -0.02, "continue"),
        ("non-inferiority", 0.01, -0.015, "continue"),
        ("non-inferiority", 0.01, -0.04, "rollback"),
    ],
)
@pytest.mark.parametrize("metric", ["item_goodrate", "error_rate"])
def test_goals(goal: str, margin: float, gain: float, outcome: str, metric: str) -> None:
    """With an interval of 2 points to each side, for a metric of either direction."""
    plan = PLAN.model_copy(update={"goal": goal, "margin": margin, "guardrails": (), "metric": metric})
    assert decide(plan, LAST, measurement(**{metric: estimate(metric, "all", gain, 0.02)})).outcome == outcome


def test_reasons_give_numbers_in_words() -> None:
    found = {reason.check: reason.text for reason in reversed(decide(PLAN, LAST, measurement()).reasons)}
    assert found["item_goodrate"] == "item_goodrate +5.00 points (+3.00 to +7.00, 1,000 units): a higher value is shown"
    assert found["latency_ms"] == "latency_ms +2 ms (-3 ms to +7 ms, 1,000 units): not more than 20 ms worse"
    assert (
        found["sample ratio"]
        == "the split works: 500 of 1,000 units are the candidate's, 500.0 expected (lowest p so far 0.4, limit 0.001)"
    )


intervals = st.tuples(st.floats(-0.4, 0.4), st.floats(0.0, 0.3), st.integers(0, 2000))


@st.composite
def looks(draw: st.DrawFn) -> tuple[Plan, Standing, Measurement]:
    """Any plan, place and measurement."""
    margin = st.floats(0, 0.1)
    plan = PLAN.model_copy(
        update={
            "goal": draw(st.sampled_from(["superiority", "non-inferiority"])),
            "margin": draw(margin),
            "guardrails": tuple(
                Guardrail(metric=metric, slice=one, margin=draw(margin))
                for metric, one in draw(
                    st.lists(
                        st.sampled_from([("item_goodrate", "*"), ("error_rate", "all"), ("click_rate", "all")]),
                        unique=True,
                    )
                )
            ),
        }
    )
    estimates = [
        estimate(metric, one, *draw(intervals))
        for metric, one in itertools.product(["item_goodrate", "error_rate"], ["all", *SLICES])
        if draw(st.integers(0, 9)) > 0
    ]
    p_value = draw(st.sampled_from([1.0, 0.2, 1e-5]))
    found = Measurement(
        at=0.0,
        pages=1000,
        graded=draw(st.integers(0, 1000)),
        unanswered=draw(st.integers(0, 200)),
        estimates=[
            replace(one, effect=None, low=-math.inf, high=math.inf) if not one.n_control else one for one in estimates
        ],
        sample_ratio=replace(GOOD_RATIO, p_value=p_value),
        mismatches=draw(st.sampled_from([0, 0, 0, 2])),
        units_in_step=draw(st.sampled_from([None, 0, 100])),
    )
    return plan, Standing(draw(st.integers(0, 1)), draw(st.sampled_from([10.0, 100.0, 2000.0]))), found


def rank(verdict: Verdict) -> int:
    """How well a verdict is for the candidate."""
    if verdict.next_step:
        return 3
    return {"rollback": 0, "inconclusive": 1, "continue": 2, "promote": 4}[verdict.outcome]


def better(one: Estimate, by: float) -> Estimate:
    if one.effect is None:
        return one
    by = by if one.higher_is_better else -by
    return replace(one, effect=one.effect + by, low=one.low + by, high=one.high + by)


@settings(max_examples=400, deadline=None)
@given(looks(), st.floats(0, 0.5))
def test_a_better_candidate_never_fares_worse(look: tuple[Plan, Standing, Measurement], by: float) -> None:
    plan, standing, found = look
    gained = replace(found, estimates=[better(one, by) for one in found.estimates])
    assert rank(decide(plan, standing, gained)) >= rank(decide(plan, standing, found))


@settings(max_examples=400, deadline=None)
@given(looks())
@example((PLAN, LAST, measurement()))
def test_every_verdict_follows_from_its_reasons(look: tuple[Plan, Standing, Measurement]) -> None:
    plan, standing, found = look
    verdict = decide(plan, standing, found)
    last = standing.step == len(plan.steps) - 1
    pointers = {reason.points_to for reason in verdict.reasons}
    assert all(reason.text and reason.check for reason in verdict.reasons)
    assert "next step" not in pointers if last else "promote" not in pointers
    if verdict.outcome == "promote":
        assert last
        assert pointers == {"promote"}
    elif verdict.next_step:
        assert not last
        assert pointers == {"next step"}
    else:
        assert verdict.outcome in pointers
    json.dumps(to_json(verdict), allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(looks())
def test_the_record_gives_the_same_verdict(look: tuple[Plan, Standing, Measurement]) -> None:
    plan, standing, found = look
    kept = measured.from_json(json.loads(json.dumps(measured.to_json(found), allow_nan=False)))
    assert decide(plan, standing, kept) == decide(plan, standing, found)


@settings(deadline=None)
@given(looks(), st.sets(st.sampled_from(SLICES)))
def test_levels_spend_no_more_than_the_plan_allows(look: tuple[Plan, Standing, Measurement], slices: set[str]) -> None:
    """Harm: all checks together. Promotion: each check by itself."""
    plan = look[0]
    found = levels(plan, slices)
    judged = dict.fromkeys([(plan.metric, "all"), *((metric, one) for metric, one, _ in checks(plan, slices))])
    harm = sum(found[key].low if key[0] in LOWER_IS_BETTER else found[key].high for key in judged)
    assert harm == pytest.approx(plan.harm_alpha)
    assert all((found[key].high if key[0] in LOWER_IS_BETTER else found[key].low) == plan.alpha for key in judged)
    assert all(found[key].alpha == pytest.approx(plan.alpha) for key in found if key not in judged)


def test_a_guardrail_named_twice_keeps_the_smaller_margin() -> None:
    plan = Plan(
        slice_queries=Path("queries"),  # only reading it tells which slices there are
        guardrails=(
            Guardrail(metric="ndcg", slice="*", margin=0.1),
            Guardrail(metric="ndcg", slice="question", margin=0.02),
            Guardrail(metric="ndcg", slice="elsewhere", margin=0.3),
        ),
    )
    assert checks(plan, ["all", "question"]) == [
        ("ndcg", "all", 0.1),
        ("ndcg", "question", 0.02),
        ("ndcg", "elsewhere", 0.3),
    ]
    assert ("ndcg", "elsewhere") in levels(plan, ["question"])
