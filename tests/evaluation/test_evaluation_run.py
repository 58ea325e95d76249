import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.config import JudgeConfig
from taoemb.errors import InputError, TaoembError
from taoemb.evaluation import artefacts
from taoemb.evaluation.run import compare_systems, evaluate
from taoemb.judge.probe import PAIRS

FILES = ["evaluation.json", "metrics.json", "per_query.parquet", "report.html", "run.parquet"]


@pytest.fixture(scope="module")
def evaluated(shop, parent, child, settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "out"
    return out, evaluate(child.path, shop, out, settings, baseline=parent.path)


def test_writes_the_contracted_files(evaluated):
    out, evaluation = evaluated
    assert sorted(path.name for path in out.iterdir()) == FILES
    metrics = json.loads((out / "metrics.json").read_text())
    assert json.loads((out / "evaluation.json").read_text()) == json.loads(json.dumps(evaluation))
    for slices in metrics.values():
        assert next(iter(slices)) == "all"
        for cell in slices.values():
            assert set(cell) == {"value", "interval", "queries"}
            assert cell["interval"][0] <= cell["interval"][1]
    assert set(metrics["goodrate@5"]) == {"all", "plain", "long-tail", *(s for s in metrics["goodrate@5"] if ":" in s)}
    assert not any(name.startswith("template:") for name in metrics["goodrate@5"])
    assert metrics["goodrate@5"]["all"]["queries"] == 24  # the query without judgments is not evaluated


def test_means_and_differences_follow_from_the_values_of_single_queries(evaluated):
    out, evaluation = evaluated
    table = pq.read_table(out / "per_query.parquet").to_pandas()
    sides = {name: rows.set_index("query_id") for name, rows in table.groupby("system")}
    for metric in ("hitrate@5", "ndcg@5", "pair_accuracy"):
        cell = evaluation["systems"]["release"]["metrics"][metric]["all"]
        values = sides["release"][metric]
        assert cell["value"] == pytest.approx(values.mean())
        assert cell["queries"] == values.notna().sum()
        change = evaluation["differences"][metric]["all"]
        assert change["value"] == pytest.approx((values - sides["baseline"][metric]).mean())
        assert 0 < change["p"] <= 1


def test_the_run_file_holds_the_ranking_with_grades(evaluated, shop):
    run = pq.read_table(evaluated[0] / "run.parquet").to_pandas()
    graded = pq.read_table(shop / "judgments.parquet").to_pandas().set_index(["query_id", "item_id"]).grade
    mine = run[(run.system == "release") & (run.query_id == "q3")]
    assert mine["rank"].tolist() == list(range(1, 51))  # the deepest cut-off asked for
    assert (np.diff(mine.score) <= 0).all()
    for row in mine.itertuples():
        known = graded.get((row.query_id, row.item_id))
        assert row.grade == known if known is not None else np.isnan(row.grade)


def test_names_releases_and_counts(evaluated, child, parent):
    _, evaluation = evaluated
    assert evaluation["systems"]["release"]["digest"] == child.manifest.digest
    assert evaluation["systems"]["release"]["parent"] == parent.manifest.digest
    facts = evaluation["dataset"]
    assert (facts["items"], facts["queries"], facts["evaluated_queries"], facts["judgments"]) == (96, 25, 24, 960)
    assert sum(facts["grades"].values()) == 960
    assert evaluation["gate"]["reasons"][0].startswith("goodrate@5: ")


def test_the_same_release_differs_from_itself_by_exactly_nothing(shop, child, settings, tmp_path):
    evaluation = evaluate(child.path, shop, tmp_path / "out", settings, baseline=child.path)
    for slices in evaluation["differences"].values():
        for cell in slices.values():
            assert (cell["value"], cell["low"], cell["high"], cell["p"]) == (0, 0, 0, 1)
    assert evaluation["gate"]["passed"]


def test_compares_any_systems_with_a_named_baseline(shop, child, model_folders, settings, tmp_path):
    systems = {"BM25": "bm25", "zero-shot": str(model_folders[0]), "GRPO": child.path}
    evaluation = compare_systems(systems, shop, tmp_path / "out", settings, baseline="zero-shot", subject="GRPO")
    assert list(evaluation["systems"]) == list(systems)
    assert evaluation["differences"] == evaluation["systems"]["GRPO"]["differences"]
    assert "differences" not in evaluation["systems"]["zero-shot"]
    assert evaluation["systems"]["BM25"]["metrics"]["hitrate@5"]["all"]["value"] > 0.8  # titles hold the words asked
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["mrr@5"]["all"]["value"] == evaluation["systems"]["GRPO"]["metrics"]["mrr@5"]["all"]["value"]
    run = pq.read_table(tmp_path / "out" / "run.parquet").to_pandas()
    assert run[run.system == "BM25"].score.isna().all()


def test_a_second_run_gives_the_same_numbers_and_keeps_other_files(evaluated, shop, parent, child, settings, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "note.txt").write_text("mine")
    (out / "metrics.json").write_text("old")
    evaluate(child.path, shop, out, settings, baseline=parent.path)
    assert (out / "metrics.json").read_text() == (evaluated[0] / "metrics.json").read_text()
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "note.txt"])


def heldout(settings, judge, **options):
    return settings.model_copy(update={"heldout_judge": JudgeConfig(url=judge.url, **options)})


def test_a_heldout_judge_grades_the_top_places(shop, parent, child, settings, rule_judge, tmp_path):
    config = heldout(settings, rule_judge)
    evaluation = evaluate(child.path, shop, tmp_path / "out", config, baseline=parent.path, judge=True)
    assert evaluation["judge"]["release"] == "heldout-judge"
    assert evaluation["judge"]["unanswered"] == 0
    assert len(rule_judge.asked) == len(set(rule_judge.asked)) == evaluation["judge"]["asked"]
    cell = evaluation["systems"]["release"]["metrics"]["judge_goodrate@5"]["all"]
    run = pq.read_table(tmp_path / "out" / "run.parquet").to_pandas()
    items = pq.read_table(shop / "items.parquet").to_pandas().set_index("item_id").title
    texts = pq.read_table(shop / "queries.parquet").to_pandas().set_index("query_id").text
    top = run[(run.system == "release") & (run["rank"] <= 5)]
    good = [texts[q].split()[-1] == items[i].split()[-1] for q, i in zip(top.query_id, top.item_id, strict=True)]
    assert cell["value"] == pytest.approx(np.mean(good))
    assert "judge_query_goodrate@5" in evaluation["differences"]


def test_a_judge_alone_can_grade_a_dataset_without_judgments(shop, child, settings, rule_judge, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    os.link(shop / "items.parquet", bare / "items.parquet")
    queries = pq.read_table(shop / "queries.parquet").slice(0, 24)
    pq.write_table(queries, bare / "queries.parquet")
    sampled = settings.model_copy(
        update={"evaluation": settings.evaluation.model_copy(update={"judge_queries": 6, "judge_depth": 5})}
    )
    evaluation = evaluate(child.path, bare, tmp_path / "out", heldout(sampled, rule_judge), judge=True)
    metrics = evaluation["systems"]["release"]["metrics"]
    assert set(metrics) == {"judge_goodrate@5", "judge_query_goodrate@5"}
    assert metrics["judge_goodrate@5"]["all"]["queries"] == 6
    assert evaluation["judge"]["pairs"] == 30
    assert len(rule_judge.asked) == len(set(rule_judge.asked)) == evaluation["judge"]["asked"]
    assert 30 <= len(rule_judge.asked) <= 30 + PAIRS  # with those that the judge is tried with first


def test_unanswered_pairs_are_left_out_and_counted(shop, child, settings, rule_judge, tmp_path):
    rule_judge.silent = ("red sofa",)
    config = heldout(settings, rule_judge)
    evaluation = evaluate(child.path, shop, tmp_path / "out", config, judge=True)
    assert evaluation["judge"]["unanswered"] == 10
    metrics = evaluation["systems"]["release"]["metrics"]
    assert metrics["judge_goodrate@10"]["all"]["queries"] == 23
    assert "10 of 240 pairs unanswered" in (tmp_path / "out" / "report.html").read_text()


def test_too_many_unanswered_pairs_stop_the_evaluation(shop, child, settings, rule_judge, tmp_path):
    rule_judge.silent = ("red sofa", "blue sofa", "green lamp")
    config = heldout(settings, rule_judge, max_unanswered=0.1)
    with pytest.raises(TaoembError, match="left 30 of 240 pairs unanswered, more than 10%"):
        evaluate(child.path, shop, tmp_path / "out", config, judge=True)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_judge_that_gave_the_reward_may_not_grade(shop, parent, child, settings, rule_judge, tmp_path):
    rule_judge.digest = "reward-judge"
    config = heldout(settings, rule_judge)
    with pytest.raises(InputError, match=r"gave the reward that release .* was trained on"):
        evaluate(child.path, shop, tmp_path / "out", config, judge=True)
    with pytest.raises(InputError, match="gave the reward that baseline"):
        evaluate(parent.path, shop, tmp_path / "out", config, baseline=child.path, judge=True)
    assert rule_judge.asked == []


def test_bad_input_is_refused_before_anything_is_written(shop, child, settings, tmp_path):
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("items", "queries"):
        os.link(shop / f"{name}.parquet", empty / f"{name}.parquet")
    with pytest.raises(InputError, match=r"judgments\.parquet: the file is missing"):
        evaluate(child.path, empty, out, settings)
    nothing = pq.read_table(shop / "judgments.parquet").slice(0, 0)
    pq.write_table(nothing, empty / "judgments.parquet")
    with pytest.raises(InputError, match=r"no query has a judgment; add judgments\.parquet"):
        evaluate(child.path, empty, out, settings)
    with pytest.raises(InputError, match="no release and no model"):
        evaluate(tmp_path / "no" / "release", shop, out, settings)
    with pytest.raises(InputError, match="give --judge-url"):
        evaluate(child.path, shop, out, settings, judge=True)
    with pytest.raises(InputError, match="no such folder; give the folder that"):
        evaluate(child.path, shop, out, settings, judge=tmp_path / "nowhere")
    with pytest.raises(InputError, match="baseline 'x' is none of the systems a"):
        compare_systems({"a": "bm25"}, shop, out, settings, baseline="x")
    with pytest.raises(InputError, match="compared with itself"):
        compare_systems({"a": "bm25"}, shop, out, settings, baseline="a")
    with pytest.raises(InputError, match="nothing to evaluate"):
        compare_systems({}, shop, out, settings)
    assert not out.exists()


def test_an_unwritable_out_is_refused(shop, child, settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give a folder"):
        evaluate(child.path, shop, tmp_path / "file", settings)
    with pytest.raises(InputError, match="cannot be written"):
        evaluate(child.path, shop, tmp_path / "file" / "out", settings)


def test_metrics_without_any_defined_query_are_left_out(shop, settings, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("items", "queries"):
        os.link(shop / f"{name}.parquet", data / f"{name}.parquet")
    table = pq.read_table(shop / "judgments.parquet")
    bad = table.set_column(2, "grade", pa.array([1] * len(table), pa.int8()))
    pq.write_table(bad, data / "judgments.parquet")
    evaluation = compare_systems({"bm25": "bm25"}, data, tmp_path / "out", settings)
    metrics = evaluation["systems"]["bm25"]["metrics"]
    assert not {"hitrate@5", "ndcg@5", "bpref", "pair_accuracy"} & set(metrics)
    assert metrics["goodrate@5"]["all"]["value"] == 0


def test_artefacts_for_a_pipeline(evaluated):
    out, evaluation = evaluated
    found = artefacts.scalars(evaluation)
    assert found["goodrate_at_5"] == evaluation["systems"]["release"]["metrics"]["goodrate@5"]["all"]["value"]
    assert found["goodrate_at_5_gain"] == evaluation["differences"]["goodrate@5"]["all"]["value"]
    assert all(name.isidentifier() for name in found)
    assert artefacts.html(out) == (out / "report.html").read_text()
    with pytest.raises(InputError, match="run `taoemb evaluate` first"):
        artefacts.html(out / "none")
