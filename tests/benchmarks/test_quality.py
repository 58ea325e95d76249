"""What the quality comparison measures by, checked on a small generated shop."""

import numpy as np
import pytest

from benchmarks.quality.judges import open_judge
from benchmarks.quality.measure import DEPTH, METRICS, TrueGrades, paired, points
from taoemb.data.synth import synthesise
from taoemb.evaluation.bootstrap import Estimate
from taoemb.judge.answers import relevance


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality") / "shop"
    synthesise(folder, items=400, queries=80, seed=3)
    return TrueGrades(folder)


def test_the_best_ranking_has_every_exact_match_and_the_worst_has_none(truth):
    best = np.argsort(-truth.grades_QN, axis=1, kind="stable")
    found, worst = truth.of_ranking(best), truth.of_ranking(best[:, ::-1])
    assert set(found) == set(METRICS)
    assert found["exact@10"] == pytest.approx(np.ones(len(best)))
    assert (found["grade@10"] >= worst["grade@10"]).all()
    assert worst["goodrate@10"].max() < found["goodrate@10"].mean()


def test_the_words_route_overlaps_itself_and_empty_places_find_nothing(truth):
    route = truth.of_ranking(truth.route_QN)
    assert route["bm25_overlap@10"] == pytest.approx((truth.route_QN[:, :DEPTH] >= 0).any(1).astype(float))
    empty = truth.of_ranking(np.full((len(truth.route_QN), DEPTH), -1))
    assert all(empty[metric].max() == 0 for metric in METRICS)


def test_slices_by_kind_and_by_length_each_hold_every_query_once(truth):
    by_length = [mask for name, mask in truth.slices.items() if "words" in name]
    by_kind = [mask for name, mask in truth.slices.items() if name != "all" and "words" not in name]
    for masks in (by_length, by_kind):
        assert (np.stack(masks).sum(0) == 1).all()


def test_a_noisy_judge_is_wrong_as_often_as_it_says_and_always_the_same_way(truth):
    items = truth.data.items.records(np.arange(len(truth.data.items)))
    noisy, right = open_judge("rules-20%", truth.data), open_judge("rules", truth.data)
    wrong = []
    for query in truth.data.queries.texts[:20]:
        asked = ([query] * len(items), items)
        said = noisy.submit(*asked).result().relevance
        assert said == pytest.approx(relevance(noisy.probs(*asked)))
        wrong.append(said != right.submit(*asked).result().relevance)
    assert np.mean(wrong) == pytest.approx(0.2, abs=0.02)


def test_a_paired_difference_holds_its_truth():
    rng = np.random.default_rng(0)
    base = [{"goodrate@10": rng.random(300)} for _ in range(3)]
    ours = [{"goodrate@10": run["goodrate@10"] + rng.normal(0.05, 0.02, 300)} for run in base]
    estimate, each = paired(ours, base, "goodrate@10")
    assert estimate.low < 0.05 < estimate.high
    assert len(each) == 3
    assert points(Estimate(0.0512, 0.049, -0.001, 1)) == "+5.1 [+4.9, -0.1]"
