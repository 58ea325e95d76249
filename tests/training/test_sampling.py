"""Data order and draws: functions of the seed and the step, whatever the number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.data.dataset import Pairs, open_dataset
from taoemb.errors import InputError
from taoemb.training.sampling import FalseNegatives, Positives, QueryOrder, random_items


@given(st.integers(1, 40), st.integers(1, 17), st.integers(0, 5))
def test_every_query_comes_once_an_epoch(n, count, seed):
    order = QueryOrder(np.arange(n) * 3, seed)
    steps = -(-3 * n // count)
    seen = np.concatenate([order.at(step, count) for step in range(steps)])
    for epoch in range(3):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(np.arange(n) * 3)


def test_the_order_depends_on_the_seed_and_not_on_earlier_calls():
    assert (QueryOrder(np.arange(50), 1).at(7, 8) == QueryOrder(np.arange(50), 1).at(7, 8)).all()
    assert (QueryOrder(np.arange(50), 1).at(7, 8) != QueryOrder(np.arange(50), 2).at(7, 8)).any()


def test_no_query_to_train_on_is_said():
    with pytest.raises(InputError, match="no query to train on"):
        QueryOrder(np.array([], dtype=np.int64), 0)


def pairs():
    return Pairs(
        np.array([2, 0, 2, 2], np.int32), np.array([5, 1, 3, 4], np.int64), np.array([0.0, 1.0, 1.0, 3.0], np.float32)
    )


def test_positives_are_drawn_by_weight():
    positives = Positives(pairs(), 4)
    assert positives.query_rows.tolist() == [0, 2]
    assert positives.of(2).tolist() == [3, 4, 5]
    draws = np.concatenate([positives.draw(np.array([2] * 50), 0, step) for step in range(40)])
    assert set(draws) == {3, 4}  # weight 0 is never drawn
    assert (draws == 4).mean() == pytest.approx(0.75, abs=0.05)
    assert positives.draw(np.array([1, 0, 3]), 0, 0).tolist() == [-1, 1, -1]


def test_a_query_whose_pairs_all_have_weight_0_is_not_trained_on():
    known = Pairs(np.array([0, 1], np.int32), np.array([3, 4], np.int64), np.array([0.0, 2.0], np.float32))
    positives = Positives(known, 2)
    assert positives.query_rows.tolist() == [1]
    assert positives.of(0).tolist() == [3]
    assert positives.draw(np.array([0, 1]), 0, 0).tolist() == [-1, 4]


def test_random_items_differ_by_step_and_cover_the_catalogue():
    first, second = random_items(30, 1000, 0, 0), random_items(30, 1000, 0, 1)
    assert set(first) == set(range(30))
    assert (first != second).any()
    assert (first == random_items(30, 1000, 0, 0)).all()


def test_false_negatives_are_known_positives_and_their_titles(shop):
    data = open_dataset(shop, need=("items", "queries", "pairs"))
    positives = Positives(data.pairs, len(data.queries))
    mask = FalseNegatives(data.items, positives).mask(np.array([0, 1]), np.arange(len(data.items)))
    assert np.flatnonzero(mask[0]).tolist() == sorted(positives.of(0).tolist())
    assert np.flatnonzero(mask[1]).tolist() == sorted(positives.of(1).tolist())


def test_an_item_with_a_positives_title_is_no_negative(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"item_id": ["a", "b", "c"], "title": ["lamp", "lamp", "tent"]}), tmp_path / "items.parquet"
    )
    items = open_dataset(tmp_path).items
    known = Positives(Pairs(np.array([0], np.int32), np.array([0], np.int64), np.ones(1, np.float32)), 1)
    assert FalseNegatives(items, known).mask(np.array([0]), np.array([0, 1, 2])).tolist() == [[True, True, False]]
