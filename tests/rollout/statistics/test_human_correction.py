import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from taoemb.rollout.statistics.correction import FIRST_FIT, calibrated, corrected_values, one_look_interval
from taoemb.rollout.statistics.effect import effect_sequence


def pages(random: np.random.Generator, n: int, effect: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Human grades, a judge that likes a fifth of the candidate's bad pages, and the arms."""
    a = random.random(n) < 0.5
    human = (random.random(n) < 0.6 + effect * a).astype(float)
    judged = np.where(random.random(n) < 0.1, 1 - human, human)
    return human, np.where(a & (random.random(n) < 0.2), np.maximum(judged, 0.9), judged), a


def test_a_biased_judge_is_put_right() -> None:
    random = np.random.default_rng(0)
    n, q, count = 3000, 0.25, 100
    judge_alone = both = 0
    centers = []
    for _ in range(count):
        human, judged, a = pages(random, n, 0.0)
        values, bounds = corrected_values(judged, np.where(random.random(n) < q, human, np.nan), q)
        half, at = np.full(n, 0.5), np.arange(100, n + 1, 100)
        found = effect_sequence(values, a, half, alpha=0.1, bounds=bounds, at=at)
        both += bool(np.any((found.low > 0) | (found.high < 0)))
        judge_alone += bool(np.any(effect_sequence(judged, a, half, alpha=0.1, at=at).low > 0))
        centers.append(found.center[-1])
    assert judge_alone > 0.5 * count
    assert both <= binom.ppf(1 - 1e-6, count, 0.1)
    assert abs(np.mean(centers)) < 5 * np.std(centers) / np.sqrt(count)


def test_the_judge_saves_people_work() -> None:
    random = np.random.default_rng(1)
    n, q = 8000, 0.2
    human, judged, a = pages(random, n, 0.05)
    asked = random.random(n) < q
    values, bounds = corrected_values(judged, np.where(asked, human, np.nan), q)
    at = np.array([n])
    both = effect_sequence(values, a, np.full(n, 0.5), alpha=0.1, bounds=bounds, at=at)
    alone = effect_sequence(
        human[asked], a[asked], np.full(int(asked.sum()), 0.5), alpha=0.1, at=np.array([asked.sum()])
    )
    assert (both.high - both.low)[0] < 0.85 * (alone.high - alone.low)[0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1))), max_size=80), st.floats(0.05, 1))
def test_values_keep_their_bounds_and_predictions_look_back_only(rows: list[tuple], q: float) -> None:
    judged = np.array([row[0] for row in rows], dtype=float)
    human = np.array([np.nan if row[1] is None else row[1] for row in rows], dtype=float)
    values, (low, high) = corrected_values(judged, human, q)
    assert np.all((values >= low - 1e-9) & (values <= high + 1e-9))
    half = len(rows) // 2
    np.testing.assert_allclose(calibrated(judged[:half], human[:half]), calibrated(judged, human)[:half], atol=1e-9)


def test_where_people_grade_everything_the_judge_counts_for_nothing() -> None:
    human, judged, _ = pages(np.random.default_rng(2), 200, 0.0)
    values, bounds = corrected_values(judged, human, 1.0)
    np.testing.assert_allclose(values, human, atol=1e-12)
    assert bounds == (0.0, 1.0)


def test_a_judge_on_another_scale_is_calibrated() -> None:
    random = np.random.default_rng(3)
    human = random.random(1000)
    predicted = calibrated(0.2 + 0.3 * human, np.where(random.random(1000) < 0.5, human, np.nan))
    np.testing.assert_allclose(predicted[4 * FIRST_FIT :], human[4 * FIRST_FIT :], atol=1e-6)


def test_a_share_that_is_none_is_refused() -> None:
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="probability"):
            corrected_values(np.array([0.5]), np.array([0.5]), wrong)


def test_the_classical_interval_of_ppi_python_covers_at_one_look() -> None:
    random = np.random.default_rng(4)
    n, count, missed = 1000, 25, 0
    for _ in range(count):
        human, judged, a = pages(random, n, 0.05)
        found = one_look_interval(judged, np.where(random.random(n) < 0.3, human, np.nan), a, 0.1)
        assert found is not None
        missed += not found[0] <= 0.05 <= found[1]
    assert missed <= binom.ppf(1 - 1e-6, count, 0.1)
    assert one_look_interval(judged, human, a, 0.1) is None
