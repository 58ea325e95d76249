import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import binom

from taoemb.rollout.statistics.sample_ratio import SHIFTS, sample_ratio_sequence

SHARES = np.repeat([0.01, 0.05, 0.25, 0.5, 1.0], [400, 400, 400, 800, 50])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.01, 0.3, 0.5])), min_size=1, max_size=40),
)
def test_p_values_are_those_of_the_likelihood_ratios_multiplied_out(units: list[tuple[bool, float]]) -> None:
    a, p = np.array([one[0] for one in units]), np.array([one[1] for one in units])
    shifted = expit(logit(p)[:, None] + SHIFTS)
    ratios = np.where(a[:, None], shifted / p[:, None], (1 - shifted) / (1 - p[:, None]))
    evidence = np.cumprod(ratios, axis=0).mean(axis=1)
    expected = 1 / np.maximum(1, np.maximum.accumulate(evidence))
    np.testing.assert_allclose(sample_ratio_sequence(a, p), expected, rtol=1e-9)


def test_a_split_that_works_is_left_alone_through_all_steps() -> None:
    random = np.random.default_rng(0)
    count, alpha = 1000, 0.05
    alarms = sum(
        bool(sample_ratio_sequence(random.random(len(SHARES)) < SHARES, SHARES)[-1] < alpha) for _ in range(count)
    )
    assert alarms <= binom.ppf(1 - 1e-6, count, alpha)


@pytest.mark.parametrize("losing", [False, True])
def test_an_arm_that_loses_units_is_found(losing: bool) -> None:
    random = np.random.default_rng(1)
    n = 20_000
    a = random.random(n) < 0.5
    kept = (a != losing) | (random.random(n) > 0.1)
    p_values = sample_ratio_sequence(a[kept], np.full(int(kept.sum()), 0.5))
    assert p_values[-1] < 0.001
    assert np.all(np.diff(p_values) <= 0)


def test_units_without_a_choice_count_for_nothing() -> None:
    a, p = np.array([True, False, True]), np.array([0.5, 0.5, 0.5])
    sure = np.concatenate([np.ones(500, dtype=bool), np.zeros(500, dtype=bool)])
    more = sample_ratio_sequence(np.concatenate([a, sure]), np.concatenate([p, sure.astype(float)]))
    assert more[-1] == pytest.approx(sample_ratio_sequence(a, p)[-1])


def test_no_unit_is_no_alarm() -> None:
    assert sample_ratio_sequence(np.array([]), np.array([]), np.array([0])).tolist() == [1.0]


def test_forced_units_are_refused() -> None:
    with pytest.raises(ValueError, match="no share"):
        sample_ratio_sequence(np.array([True]), np.array([0.0]))


def test_looks_and_chunks_change_nothing() -> None:
    random = np.random.default_rng(2)
    a, p = random.random(70_000) < 0.02, np.full(70_000, 0.02)
    whole = sample_ratio_sequence(a, p)
    looks = np.array([1, 32_768, 32_769, 70_000])
    np.testing.assert_array_equal(sample_ratio_sequence(a, p, looks), whole[looks - 1])
