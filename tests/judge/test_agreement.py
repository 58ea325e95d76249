"""Measures of agreement against scikit-learn and by their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from taoemb.judge.agreement import Graded, agreement, confusion, point_agreement, reliability
from taoemb.judge.answers import relevance


def random_graded(seed: int, pairs: int = 300, queries: int = 12) -> Graded:
    """Noisy but informative grades, with many ties."""
    rng = np.random.default_rng(seed)
    grades = rng.integers(1, 5, pairs).astype(np.int8)
    probs_P4 = rng.dirichlet(np.ones(4), pairs)
    probs_P4[np.arange(pairs), grades - 1] += 0.3
    probs_P4 = np.round(probs_P4, 1) + 1e-3
    return Graded(rng.integers(0, queries, pairs), grades, (probs_P4 / probs_P4.sum(1, keepdims=True)).astype("f4"))


@pytest.mark.parametrize("seed", range(3))
def test_against_scikit_learn(seed):
    graded = random_graded(seed)
    values = point_agreement(graded)
    assert values["auc"] == pytest.approx(roc_auc_score(graded.grades >= 3, relevance(graded.probs_P4)), abs=1e-6)
    said = graded.probs_P4.argmax(1) + 1
    assert values["kappa"] == pytest.approx(cohen_kappa_score(graded.grades, said, weights="quadratic"), abs=1e-9)
    assert values["brier"] == pytest.approx(np.mean((graded.p_good - graded.good) ** 2), abs=1e-6)
    assert confusion(graded).sum() == 300


def test_pair_accuracy_counts_pairs_of_one_query_and_ties_half():
    probs_P4 = np.eye(4, dtype=np.float32)[[3, 2, 2, 0, 0]]
    graded = Graded(np.array([7, 7, 7, 9, 9]), np.array([4, 3, 2, 1, 1]), probs_P4)
    # query 7: 4 over 3 and 4 over 2 right, 3 over 2 tied; query 9 has no differently graded pair
    entry = agreement(graded)["pair_accuracy"]
    assert entry["value"] == pytest.approx(2.5 / 3)
    assert entry["queries"] == 1


def test_a_perfect_judge_and_its_opposite():
    grades = np.array([1, 2, 3, 4] * 5)
    perfect = Graded(np.repeat(np.arange(5), 4), grades, np.eye(4, dtype=np.float32)[grades - 1])
    assert point_agreement(perfect) == {"auc": 1, "pair_accuracy": 1, "kappa": 1, "brier": 0, "ece": 0}
    reverse = Graded(perfect.queries, grades, np.eye(4, dtype=np.float32)[4 - grades])
    values = point_agreement(reverse)
    assert (values["auc"], values["pair_accuracy"], values["brier"], values["ece"]) == (0, 0, 1, 1)
    assert values["kappa"] < -0.5


def test_undefined_measures_are_none_not_numbers():
    none = np.array([], dtype=np.int64)
    assert set(point_agreement(Graded(none, none, np.zeros((0, 4), np.float32))).values()) == {None}
    only_good = Graded(np.array([0, 1]), np.array([4, 3]), np.eye(4, dtype=np.float32)[[3, 2]])
    measured = agreement(only_good)
    assert measured["auc"] == {"value": None, "low": None, "high": None, "queries": 2}
    assert measured["brier"]["value"] == 0


def test_intervals_hold_the_value_and_repeat_by_seed():
    graded = random_graded(5)
    first, again, other = (agreement(graded, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    for entry in first.values():
        assert entry["low"] < entry["value"] < entry["high"] or entry["low"] <= entry["high"]
    wide, narrow = agreement(random_graded(0, queries=4))["auc"], agreement(random_graded(0, queries=150))["auc"]
    assert wide["high"] - wide["low"] > 0
    assert narrow["low"] < narrow["value"] < narrow["high"]


def test_reliability_bins_hold_every_pair():
    graded = random_graded(2)
    bins = reliability(graded)
    assert sum(entry["pairs"] for entry in bins) == 300
    assert [entry["predicted"] for entry in bins] == sorted(entry["predicted"] for entry in bins)
    gap = sum(entry["pairs"] * abs(entry["predicted"] - entry["good"]) for entry in bins) / 300
    assert point_agreement(graded)["ece"] == pytest.approx(gap, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(40)))
def test_order_of_pairs_does_not_matter(seed, order):
    graded = random_graded(seed, pairs=40, queries=5)
    shuffled = point_agreement(graded.take(np.array(order)))
    assert shuffled == pytest.approx(point_agreement(graded), abs=1e-6)
