"""Pages of one query resemble each other: its earlier pages tell much, and bias nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from taoemb.rollout.statistics.adjust import earlier_in_group
from taoemb.rollout.statistics.effect import effect_sequence


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4)), max_size=40))
def test_only_earlier_rows_of_the_same_group_count(rows):
    y = np.array([value for value, _ in rows])
    groups = np.array([group for _, group in rows], dtype=np.int64)
    means = earlier_in_group(y, groups)
    for row in range(len(rows)):
        earlier = y[:row][groups[:row] == groups[row]]
        if len(earlier):
            np.testing.assert_allclose(means[row], earlier.mean(), atol=1e-9)
        else:
            assert np.isnan(means[row])


def shop(seed, n, effect):
    """Pages of 80 queries, some good and some bad, in two arms."""
    rng = np.random.default_rng(seed)
    query = rng.integers(0, 80, n)
    of_query = rng.beta(0.8, 0.8, 80) * (1 - effect)
    a = (rng.random(n) < 0.5).astype(float)
    y = np.clip(of_query[query] + effect * a + rng.normal(0, 0.05, n) * (of_query[query] > 0.1), 0, 1)
    return y, a, query, float(np.mean(np.clip(of_query + effect, 0, 1) - of_query))


def widths(seed, n=1000):
    y, a, query, _ = shop(seed, n, 0.0)
    found = []
    for x in (None, earlier_in_group(y, query)):
        sequence = effect_sequence(y, a, np.full(n, 0.5), alpha=0.05, x=x, at=np.array([n]))
        found.append(float(sequence.high[-1] - sequence.low[-1]))
    return found


def test_the_interval_is_less_than_half_as_wide():
    plain, adjusted = np.mean([widths(seed) for seed in range(10)], axis=0)
    assert adjusted < plain / 2


def test_it_covers_the_truth_at_all_looks():
    missed = 0
    for seed in range(200):
        y, a, query, truth = shop(seed, 600, 0.05)
        x = earlier_in_group(y, query)
        sequence = effect_sequence(y, a, np.full(len(y), 0.5), alpha=0.2, x=x)
        missed += bool(np.any((sequence.low > truth) | (sequence.high < truth)))
    assert missed <= 50  # binomial(200, 0.2): above 55 once in a thousand
