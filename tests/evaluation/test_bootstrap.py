import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from taoemb.evaluation.bootstrap import intervals
from taoemb.evaluation.slices import slice_masks

OPTIONS = {"resamples": 400, "confidence": 0.9, "seed": 0}
shares = st.floats(0, 1, allow_nan=False, width=32)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=shares))
def test_the_mean_lies_in_the_range_of_the_data_and_the_interval_too(values):
    for column, found in zip(values.T, intervals(values, **OPTIONS), strict=True):
        assert found.value == pytest.approx(column.mean())
        assert column.min() - 1e-9 <= found.low <= found.high <= column.max() + 1e-9
        assert found.queries == len(column)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, (12, 3), elements=st.one_of(shares, st.just(np.nan))))
def test_a_column_has_the_same_interval_beside_others_and_without_its_undefined_queries(values):
    together = intervals(values, **OPTIONS)
    for at, found in enumerate(together):
        defined = values[~np.isnan(values[:, at]), at][:, None]
        alone = intervals(defined, **OPTIONS)[0] if len(defined) else None
        assert (found is None) == (alone is None)
        if found is not None:
            assert found.queries == alone.queries
            assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


@pytest.mark.parametrize("draw", ["normal", "skewed", "rare"])
def test_nine_in_ten_intervals_cover_the_true_mean(draw):
    random = np.random.default_rng(7)
    trials, n = 400, 60
    sample, truth = {
        "normal": (random.normal(0.3, 1, (n, trials)), 0.3),
        "skewed": (random.exponential(0.5, (n, trials)), 0.5),
        "rare": (random.binomial(1, 0.2, (n, trials)).astype(float), 0.2),
    }[draw]
    found = intervals(sample, resamples=500, confidence=0.9, seed=1)
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in found])
    assert 0.84 <= covered <= 0.95


def test_pairing_removes_the_spread_between_queries():
    random = np.random.default_rng(3)
    ease = random.normal(0, 1, 80)
    one, other = ease + 0.05 + random.normal(0, 0.05, 80), ease + random.normal(0, 0.05, 80)
    paired = intervals((one - other)[:, None], **OPTIONS, test=True)[0]
    alone = intervals(one[:, None], **OPTIONS)[0]
    assert paired.low > 0
    assert paired.p < 0.01
    assert (alone.high - alone.low) > 5 * (paired.high - paired.low)


def test_p_values_are_uniform_when_nothing_differs():
    differences = np.random.default_rng(5).normal(0, 1, (40, 400))
    p = np.array([found.p for found in intervals(differences, **OPTIONS, test=True)])
    assert 0.02 <= (p <= 0.05).mean() <= 0.09
    assert 0.4 <= p.mean() <= 0.6


def test_equal_systems_have_an_empty_interval_and_p_one():
    found = intervals(np.zeros((30, 1)), **OPTIONS, test=True)[0]
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_the_seed_decides_the_interval():
    values = np.random.default_rng(0).random((25, 1))
    first, again, other = (intervals(values, **{**OPTIONS, "seed": seed})[0] for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low


def test_chunked_resampling_gives_the_same_interval(monkeypatch):
    values = np.random.default_rng(0).random((25, 2))
    whole = intervals(values, **OPTIONS, test=True)
    monkeypatch.setattr("taoemb.evaluation.bootstrap.CHUNK_ELEMENTS", 100)
    assert intervals(values, **OPTIONS, test=True) == whole


def test_slices_put_all_first_and_categories_last():
    masks = slice_masks([("plain", "category:sofas"), ("template:brand", "all"), ("zebra", "plain")])
    assert list(masks) == ["all", "plain", "zebra", "category:sofas"]
    assert masks["all"].tolist() == [True, True, True]
    assert masks["plain"].tolist() == [True, False, True]
    assert "template:brand" in slice_masks([("template:brand",)], templates=True)
    assert list(slice_masks([])) == ["all"]
