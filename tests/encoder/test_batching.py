"""Buckets: every text once, within the budget, and as many parts on every rank."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.encoder.batching import TokenTable, bucket_by_cost, bucket_by_count, bucket_by_tokens

LENGTHS = st.lists(st.integers(0, 200), max_size=60)


def padded(lengths: np.ndarray, parts: list[np.ndarray]) -> int:
    return sum(len(part) * int(lengths[part].max()) for part in parts)


@given(LENGTHS, st.integers(1, 500))
def test_by_tokens(lengths: list[int], budget: int) -> None:
    parts = bucket_by_tokens(lengths, budget)
    assert sorted(np.concatenate([*parts, []]).astype(int)) == list(range(len(lengths)))
    array = np.array(lengths)
    for part in parts:
        assert len(part) == 1 or len(part) * max(array[part].max(), 1) <= budget


@given(LENGTHS, st.integers(1, 12))
def test_by_count(lengths: list[int], buckets: int) -> None:
    parts = bucket_by_count(lengths, buckets)
    assert len(parts) == min(buckets, len(lengths))
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate([*parts, []]).astype(int)) == list(range(len(lengths)))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(1, 4))
def test_by_count_pads_least(lengths: list[int], buckets: int) -> None:
    array = np.array(lengths)
    parts = bucket_by_count(array, buckets)
    order = np.argsort(array, kind="stable")
    cuts = combinations(range(1, len(array)), len(parts) - 1)
    assert padded(array, parts) == min(padded(array, np.split(order, list(cut))) for cut in cuts)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(0, 300))
def test_by_cost_is_the_cheapest_count_of_parts(lengths: list[int], call_tokens: int) -> None:
    array = np.array(lengths)
    parts = bucket_by_cost(lengths, call_tokens)
    assert sorted(np.concatenate(parts)) == list(range(len(lengths)))
    for count in range(1, 9):
        other = bucket_by_count(lengths, count)
        assert padded(array, parts) + len(parts) * call_tokens <= padded(array, other) + len(other) * call_tokens


def test_by_count_is_quick_on_many_texts() -> None:
    lengths = np.random.default_rng(0).integers(1, 512, 20_000)
    parts = bucket_by_count(lengths, 4)
    even = np.array_split(np.argsort(lengths, kind="stable"), 4)
    assert padded(lengths, parts) <= padded(lengths, even)


@pytest.mark.parametrize("buckets", [1, 3])
def test_no_texts(buckets: int) -> None:
    assert bucket_by_count([], buckets) == []
    assert bucket_by_tokens([], 64) == []


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=12), st.randoms())
def test_table_gathers_right_padded_rows(rows: list[list[int]], random) -> None:
    order = random.sample(range(len(rows)), k=random.randint(1, len(rows)))
    batch = TokenTable(rows, pad_id=0).batch(np.array(order))
    lengths = [max(len(rows[i]), 1) for i in order]  # an empty text is one padding token, and real
    width = max(lengths)
    assert batch.input_ids_NT.tolist() == [rows[i] + [0] * (width - len(rows[i])) for i in order]
    assert batch.mask_NT.tolist() == [[1] * length + [0] * (width - length) for length in lengths]
    assert batch.order.tolist() == order
