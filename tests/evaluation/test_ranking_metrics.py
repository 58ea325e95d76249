import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, Bpref, Judged, P, Qrel, R, ScoredDoc, nDCG

from taoemb.config import EvaluationConfig
from taoemb.data.dataset import Judgments
from taoemb.evaluation import metrics
from taoemb.evaluation.qrels import group

CONFIG = EvaluationConfig(hitrate=(1, 3, 10), recall=(3, 10), ndcg=(3, 10), goodrate=(3, 10), mrr=(3, 10))
GAINS = {1: 0, 2: 1, 3: 3, 4: 7}
N_ITEMS = 12


def judge(*triples):
    """Judgments from (query row, item row, grade)."""
    query_rows, item_rows, grades = (np.array(column) for column in zip(*triples, strict=True))
    return Judgments(
        query_rows.astype(np.int32), item_rows.astype(np.int64), grades.astype(np.int8), [""] * len(grades)
    )


@st.composite
def cases(draw):
    """A few queries with graded items, and a system's score of every item (distinct: ties are tested by hand)."""
    n_queries = draw(st.integers(1, 4))
    triples = [
        (query, item, draw(st.integers(1, 4)))
        for query in range(n_queries)
        for item in draw(st.sets(st.integers(0, N_ITEMS - 1), min_size=1))
    ]
    scores = np.array([draw(st.permutations(range(N_ITEMS))) for _ in range(n_queries)], dtype=np.float64)
    return judge(*triples), scores, draw(st.integers(1, N_ITEMS))


def evaluate(judgments, scores, depth=N_ITEMS):
    qrels = group(judgments, np.arange(len(scores)))
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return metrics.per_query(qrels, rows, scores[qrels.owners, qrels.item_rows], CONFIG)


def oracle(measure, judgments, scores, depth):
    qrels = [
        Qrel(str(q), str(d), int(g))
        for q, d, g in zip(judgments.query_rows, judgments.item_rows, judgments.grades, strict=True)
    ]
    run = [
        ScoredDoc(str(q), str(d), float(row[d]))
        for q, row in enumerate(scores)
        for d in np.argsort(-row, kind="stable")[:depth]
    ]
    found = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measure], qrels, run)}
    return np.array([found[str(q)] for q in range(len(scores))])


def assert_same(ours, theirs):
    """ir-measures says 0 where a query has nothing to find; ours is undefined there, and only there."""
    defined = ~np.isnan(ours)
    np.testing.assert_allclose(ours[defined], theirs[defined], atol=1e-6)
    assert (theirs[~defined] == 0).all()


@settings(max_examples=60, deadline=None)
@given(cases())
def test_metrics_agree_with_ir_measures(case):
    judgments, scores, depth = case
    ours = evaluate(judgments, scores, depth)
    for k in (3, 10):
        assert_same(ours[f"hitrate@{k}"], oracle(R(rel=4) @ k, judgments, scores, depth))
        assert_same(ours[f"recall@{k}"], oracle(R(rel=3) @ k, judgments, scores, depth))
        assert_same(ours[f"ndcg@{k}"], oracle(nDCG(gains=GAINS) @ k, judgments, scores, depth))
        assert_same(ours[f"goodrate@{k}"], oracle(P(rel=3) @ k, judgments, scores, depth))
        assert_same(ours[f"mrr@{k}"], oracle(RR(rel=3) @ k, judgments, scores, depth))
    # Judged@k of ir-measures divides by the places that are filled.
    filled = np.minimum(depth, 10) / 10
    assert_same(ours["judged@10"], oracle(Judged @ 10, judgments, scores, depth) * filled)
    assert_same(
        ours["goodrate_judged@10"],
        oracle(P(rel=3) @ 10, judgments, scores, depth) / np.maximum(ours["judged@10"], 1e-9),
    )


@settings(max_examples=60, deadline=None)
@given(cases())
def test_measures_of_judged_items_agree_with_ir_measures_on_the_whole_ranking(case):
    judgments, scores, depth = case
    ours = evaluate(judgments, scores, depth)
    assert_same(ours["bpref"], oracle(Bpref(rel=3), judgments, scores, N_ITEMS))
    for k in (3, 10):
        condensed = oracle(nDCG(gains=GAINS, judged_only=True) @ k, judgments, scores, N_ITEMS)
        assert_same(ours[f"ndcg_condensed@{k}"], condensed)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_pair_accuracy_counts_pairs(case):
    judgments, scores, _ = case
    ours = evaluate(judgments, scores)["pair_accuracy"]
    for query, found in enumerate(ours):
        mine = judgments.query_rows == query
        graded = list(zip(scores[query][judgments.item_rows[mine]], judgments.grades[mine].tolist(), strict=True))
        right = [a > b for a, grade_a in graded for b, grade_b in graded if grade_a > grade_b]
        assert found == pytest.approx(np.mean(right)) if right else np.isnan(found)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_every_value_is_a_share_and_the_ideal_order_scores_one(case):
    judgments, scores, depth = case
    for column in evaluate(judgments, scores, depth).values():
        assert ((column[~np.isnan(column)] >= 0) & (column[~np.isnan(column)] <= 1 + 1e-9)).all()
    best = scores / (N_ITEMS + 1) - N_ITEMS
    best[judgments.query_rows, judgments.item_rows] += judgments.grades + N_ITEMS
    ideal = evaluate(judgments, best)
    for name in ("ndcg@3", "ndcg@10", "ndcg_condensed@10", "bpref", "pair_accuracy"):
        np.testing.assert_allclose(ideal[name][~np.isnan(ideal[name])], 1)
    assert set(ideal["mrr@3"].tolist()) <= {0.0, 1.0}


def test_worked_example():
    # Ranking: x(unjudged), a(4), b(1), c(3), empty place. Judged but not retrieved: d(4).
    judgments = judge((5, 10, 4), (5, 11, 1), (5, 12, 3), (5, 13, 4))
    qrels = group(judgments, np.array([5]))
    rows = np.array([[99, 10, 11, 12, -1]])
    scores = np.array([0.8, 0.7, 0.6, 0.1])  # of a, b, c, d
    config = EvaluationConfig(hitrate=(2, 5), recall=(5,), ndcg=(5,), goodrate=(2, 5), mrr=(1, 5))
    found = {name: float(value[0]) for name, value in metrics.per_query(qrels, rows, scores, config).items()}
    assert found["hitrate@2"] == 1 / 2  # a of {a, d}
    assert found["recall@5"] == 2 / 3  # a, c of {a, c, d}
    assert found["goodrate@2"] == 1 / 2
    assert found["goodrate@5"] == 2 / 5
    assert found["goodrate_judged@2"] == 1  # a is the only judged one
    assert found["goodrate_judged@5"] == 2 / 3
    assert found["judged@5"] == 3 / 5
    assert found["mrr@5"] == 1 / 2
    assert found["mrr@1"] == 0
    log = np.log2
    ideal = 7 + 7 / log(3) + 3 / log(4)
    assert found["ndcg@5"] == pytest.approx((7 / log(3) + 3 / log(5)) / ideal)
    assert found["ndcg_condensed@5"] == pytest.approx((7 + 3 / log(4) + 7 / log(5)) / ideal)
    # b stands above c and d; min(R, N) = 1, so both lose everything.
    assert found["bpref"] == pytest.approx(1 / 3)
    # Pairs: a>b right, a>c right, c>b wrong, d>b wrong, d>c wrong.
    assert found["pair_accuracy"] == pytest.approx(2 / 5)


def test_a_tie_is_half_right():
    qrels = group(judge((0, 1, 4), (0, 2, 1)), np.array([0]))
    assert metrics.pair_accuracy(qrels, np.array([0.5, 0.5])).tolist() == [0.5]


def test_queries_with_nothing_to_find_are_undefined_and_unjudged_ones_too():
    found = metrics.per_query(
        group(judge((0, 1, 1)), np.array([0, 1])), np.array([[1, 2], [1, 2]]), np.array([0.5]), CONFIG
    )
    assert np.isnan(found["hitrate@3"][0])
    assert np.isnan(found["ndcg@3"][0])
    assert np.isnan(found["bpref"][0])
    assert np.isnan(found["pair_accuracy"][0])
    assert found["goodrate@3"][0] == 0
    assert all(np.isnan(column[1]) for column in found.values())


def test_of_several_sources_the_low_median_counts():
    qrels = group(judge((0, 7, 4), (0, 7, 3), (0, 3, 2), (0, 3, 3), (0, 3, 3)), np.array([0]))
    assert qrels.item_rows.tolist() == [3, 7]
    assert qrels.grades.tolist() == [3, 3]


def test_judge_metrics_leave_unanswered_out_and_count_missing_places():
    grades = np.array([[4, 0, 1, 3], [1, 2, -1, -1], [0, 0, 0, 0]], dtype=np.int8)
    found = metrics.by_judge(grades, EvaluationConfig(goodrate=(4, 100)), depth=4)
    assert set(found) == {"judge_goodrate@4", "judge_query_goodrate@4"}
    np.testing.assert_allclose(found["judge_goodrate@4"], [2 / 3, 0, np.nan])
    np.testing.assert_allclose(found["judge_query_goodrate@4"], [1, 0, np.nan])


def test_every_metric_is_described():
    names = [*evaluate(judge((0, 1, 4)), np.zeros((1, N_ITEMS))), *metrics.by_judge(np.ones((1, 1)), CONFIG, 3)]
    assert all("{" not in metrics.describe(name, CONFIG) for name in names)
    assert metrics.is_quality("goodrate_judged@10")
    assert not metrics.is_quality("judged@10")
