"""The three rewards and how they combine."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from taoemb.config import RewardConfig
from taoemb.data.dataset import open_dataset
from taoemb.retrieval.bm25 import BM25Route
from taoemb.rewards.combine import combine
from taoemb.rewards.exclusivity import outside_route, uncovered_terms
from taoemb.rewards.quality import NEUTRAL, quality_scores, within_group_quantile


@pytest.fixture
def shop(tmp_path):
    items = {
        "item_id": ["a", "b", "c", "d", "e"],
        "title": ["red sofa", "blue sofa", "corner sofa bed", "steel kettle", "tea pot"],
        "category": ["sofa", "sofa", "sofa", "kitchen", "kitchen"],
        "signal_sales": [10.0, 30.0, 20.0, 500.0, None],
        "signal_rating": [1.0, 5.0, 3.0, 4.0, 2.0],
    }
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    return open_dataset(tmp_path).items


def test_quantiles_are_taken_within_the_category_and_averaged(shop):
    # Sofas: sales ranks 0, 1, .5 and rating ranks 0, 1, .5. Kitchen: one known sale is neutral, ratings 1 and 0.
    assert quality_scores(shop).tolist() == [0.0, 1.0, 0.5, pytest.approx((NEUTRAL + 1) / 2), (NEUTRAL + 0) / 2]


def test_a_catalogue_without_signals_has_neutral_quality(tmp_path):
    pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["x", "y"]}), tmp_path / "items.parquet")
    assert quality_scores(open_dataset(tmp_path).items).tolist() == [NEUTRAL, NEUTRAL]


@given(
    arrays(np.float64, 20, elements=st.sampled_from([0.0, 1.0, 2.5, 7.0, float("nan")])),
    arrays(np.int64, 20, elements=st.integers(0, 3)),
)
def test_quantiles_keep_the_order_of_values_and_the_bounds(values, groups):
    quantiles = within_group_quantile(values, groups)
    assert ((quantiles >= 0) & (quantiles <= 1)).all()
    for group in range(4):
        inside = (groups == group) & ~np.isnan(values)
        v, q = values[inside], quantiles[inside]
        assert ((v[:, None] < v[None, :]) <= (q[:, None] < q[None, :])).all()
        assert ((v[:, None] == v[None, :]) <= (q[:, None] == q[None, :])).all()
        if inside.any():
            assert q.mean() == pytest.approx(0.5)
    assert (quantiles[np.isnan(values)] == NEUTRAL).all()


def test_exclusivity_is_membership_in_the_route(shop):
    route = BM25Route(shop, top=2)
    # "kettle" matches one item only, so the route's top holds row 3 and nothing else.
    assert outside_route(route, ["kettle"], np.array([[3, 0, 4]])).tolist() == [[0.0, 1.0, 1.0]]


def test_exclusivity_by_terms_is_the_uncovered_share():
    assert uncovered_terms("red corner sofa", ["Red sofa", "corner sofa, red", "kettle"]).tolist() == [
        pytest.approx(1 / 3),
        0.0,
        1.0,
    ]
    assert uncovered_terms("!!!", ["kettle"]).tolist() == [0.0]


def test_gated_pays_extras_to_relevant_items_only():
    relevance = np.array([[0.9, 0.2]], np.float32)
    quality, exclusivity = np.array([[0.5, 1.0]]), np.array([[0.0, 1.0]])
    config = RewardConfig(combine="gated", gate=0.6, relevance=1.0, quality=0.4, exclusivity=0.4)
    assert combine(relevance, quality, exclusivity, config).total_QK[0] == pytest.approx([1.1, 0.2])
    plain = config.model_copy(update={"combine": "sum"})
    assert combine(relevance, quality, exclusivity, plain).total_QK[0] == pytest.approx([1.1, 1.0])


@pytest.mark.parametrize("how", ["gated", "sum"])
def test_what_the_judge_did_not_say_stays_unsaid(how):
    relevance = np.array([[np.nan, 0.5]], np.float32)
    ones = np.ones((1, 2), np.float32)
    total = combine(relevance, ones, ones, RewardConfig(combine=how)).total_QK
    assert np.isnan(total[0, 0])
    assert not np.isnan(total[0, 1])
