"""What the light components do when they are called with tiny data: outputs written, bad input refused."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components.gate.component import gate
from components.prepare.component import prepare
from components.train_judge.component import train_judge
from components.validate.component import validate
from taoemb.data.dataset import open_dataset
from taoemb.data.validate import validate as check
from taoemb.data.words import near_duplicate_key
from taoemb.errors import InputError, TaoembError
from taoemb.jobs.steps import settings_from
from tests.judge.stub import Stub, serving

NOTHING = {"encoder": "", "queries": 0, "sft_steps": 0, "grpo_steps": 0, "seed": -1}
ALONE = {"workspace": "", "judged": True}
NOWHERE = {"judge_url": "", "heldout_judge_url": "", "milvus_uri": "", "rollout_plan": "", "rollout_target": ""}
PARTS = ("train", "valid", "test")


def outputs(data: Path, report: dsl.Metrics, settings: str = "", **given: object) -> dict[str, str]:
    """Call `validate` and name its outputs."""
    names = ("digest", "prepare", "judge", "heldout_judge", "sft", "grpo", "evaluate", "gate", "publish", "rollout")
    found = validate.python_func(
        data=str(data), settings=settings, report=report, **{**NOTHING, **NOWHERE, **ALONE, **given}
    )
    return dict(zip(names, found, strict=True))


class TestValidate:
    def test_gives_each_step_its_part(self, shop, artefact):
        report = artefact("report", dsl.Metrics)
        given = {"sft_steps": 3, "judge_url": "http://h/v1", "seed": 5, "milvus_uri": "/m.db", "queries": 9}
        found = outputs(shop, report, "sft: {tau: 0.1}\ngrpo: {k: 4}\n", **given)
        sft = settings_from(found["sft"])
        assert (sft.sft.steps, sft.sft.tau, sft.engine.seed, sft.grpo.k) == (3, 0.1, 5, 32)
        assert settings_from(found["grpo"]).grpo.k == 4
        assert settings_from(found["grpo"]).judge.url == "http://h/v1"
        assert settings_from(found["publish"]).milvus.uri == "/m.db"
        assert settings_from(found["prepare"]).queries.count == 9
        assert found["gate"] == ""
        assert report.metadata["items"] == 300
        assert json.loads(Path(report.path).read_text())["ok"] is True

    def test_the_digest_follows_the_data(self, shop, artefact, tmp_path):
        report = artefact("report", dsl.Metrics)
        copy = shutil.copytree(shop, tmp_path / "copy")
        first = outputs(shop, report)["digest"]
        assert outputs(copy, report)["digest"] == first
        pq.write_table(pq.read_table(copy / "pairs.parquet").slice(1), copy / "pairs.parquet")
        assert outputs(copy, report)["digest"] != first

    def test_bad_data_is_named(self, shop, artefact, tmp_path):
        copy = shutil.copytree(shop, tmp_path / "copy")
        pairs = pq.read_table(copy / "pairs.parquet")
        pq.write_table(pairs.set_column(1, "item_id", [["nowhere"] * len(pairs)]), copy / "pairs.parquet")
        with pytest.raises(InputError, match=rf"{len(pairs)} violations, the first: pairs\.parquet.*item_id"):
            outputs(copy, artefact("report", dsl.Metrics))
        with pytest.raises(InputError, match="no such folder"):
            outputs(tmp_path / "none", artefact("report", dsl.Metrics))

    def test_bad_settings_come_before_the_data_is_read(self, artefact, tmp_path):
        with pytest.raises(InputError, match=r"settings: sft\.tau"):
            outputs(tmp_path / "none", artefact("report", dsl.Metrics), "sft: {tau: -1}")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "workspace: job.backend is trainjob; name a folder on a volume"),
            ({"workspace": "/mnt/taoemb/work"}, "judge_url: job.backend is trainjob; a judge served in the step"),
        ],
    )
    def test_training_elsewhere_must_see_what_the_step_sees(self, artefact, tmp_path, given, message):
        with pytest.raises(InputError, match=message):
            outputs(tmp_path / "none", artefact("report", dsl.Metrics), "job: {backend: trainjob}", **given)

    @pytest.mark.parametrize(
        ("plan", "target", "message"),
        [
            ("steps: [", "kserve://search/encoder", "rollout: not YAML"),
            ("metric: fame", "kserve://search/encoder", "rollout: metric"),
            ("{}", "", "rollout_target is needed"),
            ("{}", "kserve://encoder", "expected NAMESPACE/NAME"),
        ],
    )
    def test_a_bad_rollout_stops_the_run_before_any_training(self, artefact, tmp_path, plan, target, message):
        with pytest.raises(InputError, match=message):
            outputs(tmp_path / "none", artefact("report", dsl.Metrics), rollout_plan=plan, rollout_target=target)


class TestPrepare:
    def run(self, data: Path, artefact, settings: str) -> dsl.Dataset:
        prepared = artefact("prepared", dsl.Dataset)
        prepare.python_func(data=str(data), digest="", settings=settings, prepared=prepared)
        for part in PARTS:
            assert check(Path(prepared.path) / part).ok
        return prepared

    def test_logged_queries_are_split(self, shop, artefact):
        prepared = self.run(shop, artefact, "split: {valid: 0.1, test: 0.3}")
        parts = {part: open_dataset(Path(prepared.path) / part, need=("items", "queries", "pairs")) for part in PARTS}
        assert prepared.metadata["test"] == len(parts["test"].queries) == 18
        assert sum(len(part.queries) for part in parts.values()) == 60

    def test_a_catalogue_alone_gets_queries(self, shop, artefact, tmp_path):
        (tmp_path / "bare").mkdir()
        shutil.copy(shop / "items.parquet", tmp_path / "bare")
        prepared = self.run(tmp_path / "bare", artefact, "queries: {count: 50, graded_per_query: 6}")
        train = open_dataset(Path(prepared.path) / "train", need=("items", "queries", "pairs", "judgments"))
        assert len(train.pairs)
        assert len(train.judgments)

    def test_queries_that_people_graded_stand_beside_generated_ones(self, shop, artefact, tmp_path):
        graded = shutil.copytree(shop, tmp_path / "graded")
        (graded / "pairs.parquet").unlink()
        settings = "queries: {count: 80}\nsplit: {valid: 0.1, test: 0.4}\n"
        prepared = self.run(graded, artefact, settings)
        keys, ids = {}, []
        for part in PARTS:
            dataset = open_dataset(Path(prepared.path) / part, need=("items", "queries", "pairs", "judgments"))
            human = {"human" in slices for slices in dataset.queries.slices}
            assert human == {True, False} or part == "valid"
            assert all(("human" in own) != ("generated" in own) for own in dataset.queries.slices)
            ids += dataset.queries.ids
            for text in dataset.queries.texts:
                keys.setdefault(near_duplicate_key(text), set()).add(part)
        assert len(ids) == len(set(ids))
        assert all(len(parts) == 1 for parts in keys.values())
        assert prepared.metadata["human"] == 60
        own = set(pq.read_table(graded / "queries.parquet")["query_id"].to_pylist())
        kept = [i for part in PARTS for i in self.judged(Path(prepared.path) / part) if i in own]
        assert sorted(kept) == sorted(self.judged(graded))

    def judged(self, folder: Path) -> list[str]:
        return pq.read_table(folder / "judgments.parquet")["query_id"].to_pylist()


class TestTrainJudge:
    def test_an_endpoint_is_checked_and_recorded(self, artefact):
        judge = artefact("judge", dsl.Model)
        with serving(Stub()) as url:
            settings = f"heldout_judge: {{url: '{url}'}}"
            nothing = artefact("prepared", dsl.Dataset)
            train_judge.python_func(settings=settings, role="heldout_judge", prepared=nothing, judge=judge)
        facts = json.loads((Path(judge.path) / "endpoint.json").read_text())
        assert facts == {"url": url, "digest": "d1"}
        assert judge.metadata == facts

    def test_an_endpoint_that_is_away_stops_the_run_before_training(self, artefact):
        settings = "judge: {url: 'http://127.0.0.1:9/v1', wait_s: 0.2, timeout_s: 1}"
        with pytest.raises(TaoembError, match=r"127\.0\.0\.1:9"):
            train_judge.python_func(
                settings=settings,
                role="judge",
                prepared=artefact("prepared", dsl.Dataset),
                judge=artefact("judge", dsl.Model),
            )

    @pytest.mark.parametrize("role", ["judge", "heldout_judge"])
    def test_awkward_endpoint_that_gives_no_grades_stops_the_run_before_training(self, artefact, role):
        judge = artefact("judge", dsl.Model)
        with (
            serving(Stub(change=lambda answer: answer | {"choices": []})) as url,
            pytest.raises(TaoembError, match="answered none of the pairs, of 16 tried first: no choice for it"),
        ):
            train_judge.python_func(
                settings=f"{role}: {{url: '{url}'}}",
                role=role,
                prepared=artefact("prepared", dsl.Dataset),
                judge=judge,
            )
        assert not Path(judge.path).exists()

    def test_other_roles_are_refused(self, artefact):
        with pytest.raises(InputError, match="role 'jury': expected judge or heldout_judge"):
            train_judge.python_func(
                settings="", role="jury", prepared=artefact("prepared"), judge=artefact("judge", dsl.Model)
            )


class TestGate:
    def run(self, artefact, low: float) -> dsl.Metrics:
        evaluation, verdict = artefact("evaluation"), artefact("verdict", dsl.Metrics)
        found = {"value": low + 0.1, "low": low, "high": low + 0.2, "queries": 50}
        Path(evaluation.path).mkdir()
        content = {"differences": {"goodrate@10": {"all": found}}}
        (Path(evaluation.path) / "evaluation.json").write_text(json.dumps(content))
        gate.python_func(settings="gate: {margin: 0.05}", evaluation=evaluation, verdict=verdict)
        return verdict

    def test_passing_is_recorded(self, artefact):
        verdict = self.run(artefact, low=-0.04)
        assert verdict.metadata == {"passed": 1.0}
        assert json.loads(Path(verdict.path).read_text())["passed"] is True

    def test_failing_fails_the_step_with_its_reasons(self, artefact, tmp_path):
        with pytest.raises(
            TaoembError, match=r"the gate refused this release, it is not published: goodrate@10.*fails"
        ):
            self.run(artefact, low=-0.06)
        assert json.loads((tmp_path / "verdict").read_text())["passed"] is False
