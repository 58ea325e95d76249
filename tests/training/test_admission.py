"""Retrieval-GRPO tries its judge before a step: a run goes on, ends, or hands its start on, as the settings say."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from taoemb.encoder.release import load_release
from taoemb.errors import InputError, TaoembError
from taoemb.jobs.local import free_port
from taoemb.judge.probe import PAIRS
from tests.judge.stub import Stub, serving
from tests.training.conftest import records
from tests.training.shop import rule_grade, write_grades, write_shop


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grades(write_shop(tmp_path_factory.mktemp("graded")))


@pytest.fixture
def poor_judge() -> Iterator[Stub]:
    """It prefers what the shop's rule likes least."""

    def grade(query: str, item: str) -> Sequence[float]:
        title = item.splitlines()[0].partition(":")[2] or item
        return [0.88 if g == 5 - rule_grade(query, title) else 0.04 for g in (1, 2, 3, 4)]

    stub = Stub(grade=grade)
    with serving(stub):
        yield stub


def manifest(out: Path) -> dict:
    return json.loads((out / "release" / "release.json").read_text())


def test_a_good_judge_is_admitted_and_the_curve_is_the_same(train_here, graded, release, judge, tmp_path):
    plain = train_here("grpo", tmp_path / "plain", release=release, data=graded)
    asked = len(judge.pairs)
    tried = train_here("grpo", tmp_path / "tried", "grpo.admission=refuse", release=release, data=graded)
    assert [one["loss"] for one in tried] == [one["loss"] for one in plain]
    found = manifest(tmp_path / "tried")["training"]["admission"]
    assert found["admitted"]
    assert found["encoder"] == load_release(release).manifest.digest
    assert found["order"]["judge"] == 1
    assert "admission" not in manifest(tmp_path / "plain")["training"]
    assert len(judge.pairs) - asked <= asked + found["pairs"]


def test_a_poor_judge_is_refused_and_leaves_no_trace(train_here, graded, release, poor_judge, tmp_path):
    settings = (f"judge.url={poor_judge.url}", "grpo.admission=refuse", "grpo.admission_pairs=60")
    with pytest.raises(TaoembError, match=r"grpo\.admission: the judge is not admitted: on 60 pairs") as error:
        train_here("grpo", tmp_path / "run", *settings, release=release, data=graded)
    assert error.value.exit_code == 1
    assert not (tmp_path / "run").exists()
    assert len(poor_judge.pairs) <= PAIRS + 60


def test_a_poor_judge_that_is_warned_of_trains(train_here, graded, release, poor_judge, tmp_path):
    settings = (f"judge.url={poor_judge.url}", "grpo.admission=warn", "grpo.admission_pairs=60")
    assert len(train_here("grpo", tmp_path / "run", *settings, release=release, data=graded)) == 6
    assert not manifest(tmp_path / "run")["training"]["admission"]["admitted"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_under_a_poor_judge_the_start_goes_on_untrained(ranks, start, shop, graded, release, poor_judge, tmp_path):
    out = tmp_path / "run"
    settings = (f"judge.url={poor_judge.url}", "grpo.admission=continue-sft", f"grpo.admission_data={graded}")

    def said() -> list[str]:
        port = free_port()
        jobs = [
            start("grpo", out, *settings, release=release, rank=rank, ranks=ranks, port=port) for rank in range(ranks)
        ]
        texts = [job.communicate(timeout=240)[1] for job in jobs]
        assert [job.returncode for job in jobs] == [0] * ranks, texts[0]
        return texts

    first = said()
    assert "warning: the judge is not admitted; the release goes on untrained: on " in first[0]
    digest = load_release(release).manifest.digest
    assert load_release(out / "release").manifest.digest == digest
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["digest"], summary["steps"], summary["admission"]["admitted"]) == (digest, 0, False)
    assert not (out / "metrics.jsonl").exists() or not records(out)
    assert "finished before; nothing trained" in said()[0]


def test_without_grades_there_is_nothing_to_try_it_on(train_here, shop, release, judge, tmp_path):
    with pytest.raises(InputError, match=r"has no judgments\.parquet to try the judge on: give grpo\.admission_data"):
        train_here("grpo", tmp_path / "run", "grpo.admission=warn", release=release)
    assert not (tmp_path / "run").exists()
