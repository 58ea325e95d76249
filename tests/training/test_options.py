"""Every option of the engine and of Retrieval-GRPO does what it says, in a real run."""

import json
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.judge.stub import Stub, serving
from tests.training.conftest import SMALL, records

ADAPTERS = "encoder.lora={rank: 2, alpha: 4}"


def weights(folder):
    return load_file(folder / "release" / "model.safetensors")


@pytest.fixture(scope="module")
def plain(train, release, tmp_path_factory):
    """Records of a float32 run with no option set."""
    known = []

    def plain(judge):
        if not known:
            known.extend(train("grpo", tmp_path_factory.mktemp("plain"), f"judge.url={judge.url}", release=release))
        return known

    return plain


def losses(got):
    return [(r["loss"], r["anchor"]) for r in got]


@pytest.mark.parametrize(
    "settings",
    [
        ("engine.offload=optimizer", "engine.zero_stage=2"),
        ("engine.gradient_checkpointing=true",),
    ],
    ids=lambda settings: settings[0],
)
def test_what_only_saves_memory_changes_no_number(settings, plain, train, release, judge, tmp_path):
    got = train("grpo", tmp_path / "run", f"judge.url={judge.url}", *settings, release=release)
    assert losses(got) == [pytest.approx(step, abs=1e-5) for step in losses(plain(judge))]


@pytest.mark.parametrize(
    "settings",
    [("engine.precision=bf16", "engine.zero_stage=1"), ("engine.precision=bf16-autocast",)],
    ids=lambda settings: settings[0],
)
def test_bf16_rounds_and_still_learns_the_same(settings, plain, train, release, judge, tmp_path):
    got = train("grpo", tmp_path / "run", f"judge.url={judge.url}", *settings, release=release)
    rounded, exact = np.array(losses(got)), np.array(losses(plain(judge)))
    np.testing.assert_allclose(rounded, exact, atol=0.1)
    assert np.abs(rounded - exact).max() > 1e-4  # it did compute in bf16
    assert got[-1]["kl"] > 0  # and the policy has moved


def test_a_second_update_on_the_same_groups_is_off_policy(train, release, judge, tmp_path):
    settings = ("grpo.updates=2", "grpo.staleness=0")
    got = train("grpo", tmp_path / "run", f"judge.url={judge.url}", *settings, release=release)
    assert got[0]["clip_share"] > 0
    assert all(np.isfinite(r["loss"]) for r in got)


def test_alternating_towers_take_the_gradient_of_queries_and_of_items_in_turn(train, release, judge, tmp_path):
    settings = (f"judge.url={judge.url}", "grpo.staleness=0", "grpo.anchor=0", "grpo.refresh=1")
    turns = train("grpo", tmp_path / "turns", *settings, "grpo.towers=alternating", release=release)
    both = train("grpo", tmp_path / "both", *settings, "grpo.towers=both", release=release)
    assert turns[0]["loss"] == pytest.approx(both[0]["loss"], abs=1e-5)  # the same loss, of whose gradient only
    assert turns[0]["grad_norm"] != pytest.approx(both[0]["grad_norm"], rel=0.02)  # the queries' part is taken
    assert all(r["grad_norm"] > 0 for r in turns)


@pytest.mark.parametrize("objective", ["grpo", "hard_negatives"])
def test_a_second_run_from_a_release_finds_its_catalogue_embedded(objective, train, release, judge, tmp_path):
    settings = (f"judge.url={judge.url}", f"engine.banks={tmp_path / 'banks'}")
    first = train(objective, tmp_path / "first", *settings, release=release)
    (kept,) = (tmp_path / "banks").glob("*/*")
    written = kept.stat().st_mtime_ns
    second = train(objective, tmp_path / "second", *settings, release=release)
    assert losses_only(second) == losses_only(first)
    assert kept.stat().st_mtime_ns == written
    train(objective, tmp_path / "rounded", *settings, "encoder.precision=bf16", release=release)
    assert len(list((tmp_path / "banks").glob("*/*"))) == 2  # other arithmetic is another bank


def losses_only(got):
    return [r["loss"] for r in got]


def test_the_papers_plain_sum_and_the_overlap_measure(train, release, judge, tmp_path):
    settings = ("rewards.combine=sum", "rewards.exclusivity_measure=overlap")
    got = train("grpo", tmp_path / "run", f"judge.url={judge.url}", *settings, release=release)
    assert any(r["exclusivity"] > 0 for r in got)
    for r in got:
        assert r["reward"] == pytest.approx(r["relevance"] + 0.1 * (r["quality"] + r["exclusivity"]), abs=1e-5)


def test_lora_trains_adapters_and_releases_them_merged(train, release, tmp_path):
    train("sft", tmp_path / "run", ADAPTERS, release=release)
    before, after = load_file(release / "model.safetensors"), weights(tmp_path / "run")
    assert set(after) == set(before)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved
    assert all("dense" in name or any(part in name for part in ("query", "key", "value")) for name in moved)
    assert not any("embeddings" in name for name in moved)


def test_matryoshka_dimensions_share_the_loss(train, release, tmp_path):
    plain = train("sft", tmp_path / "plain", release=release)
    nested = train("sft", tmp_path / "nested", "encoder.matryoshka=[8]", release=release)
    assert nested[0]["loss"] != plain[0]["loss"]
    assert nested[-1]["loss"] < nested[0]["loss"]


@contextmanager
def second_judge(judge, digest):
    """A held-out judge that says it is `digest`."""
    with serving(Stub(grade=judge.grade, models=lambda: {"data": [{"id": "judge", "taoemb_digest": digest}]})) as url:
        yield [f"judge.url={judge.url}", f"heldout_judge.url={url}", "grpo.heldout_every=2", "grpo.heldout_queries=8"]


def test_the_heldout_judge_watches_queries_that_are_not_trained_on(train, release, judge, shop, tmp_path):
    with second_judge(judge, "another") as settings:
        got = train("grpo", tmp_path / "run", *settings, release=release)
    assert [("heldout_relevance" in r) for r in got] == [step % 2 == 0 for step in range(6)]
    assert all(0 < r["heldout_relevance"] <= 1 for r in got[::2])
    training = json.loads((tmp_path / "run" / "release" / "release.json").read_text())["training"]
    assert training["reward_judges"] == ["d1"]


def test_the_reward_judge_may_not_watch_itself(start, release, judge, tmp_path):
    with second_judge(judge, "d1") as settings:
        job = start("grpo", tmp_path / "run", *settings, release=release)
        said = job.communicate(timeout=60)[1]
    assert job.returncode == 2
    assert "is the reward judge itself" in said.splitlines()[-1]


def test_trackers_write_where_they_say(train, release, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs MLflow: pip install 'taoemb[mlflow]'")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = ("engine.trackers=[tensorboard, mlflow]", f"engine.mlflow_uri={uri}")
    train("sft", tmp_path / "run", *settings, release=release)
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("taoemb").experiment_id])
    assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == list(range(6))


def test_torchrun_starts_the_same_entry_point(shop, train, release, judge, tmp_path):
    url = f"judge.url={judge.url}"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "taoemb.training.grpo", "--data", str(shop), "--release", str(release)]
    command += ["--out", str(tmp_path / "torchrun"), *(part for s in (*SMALL, url) for part in ("--set", s))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    own = train("grpo", tmp_path / "own", url, release=release, ranks=2)
    assert [r["loss"] for r in records(tmp_path / "torchrun")] == pytest.approx([r["loss"] for r in own], abs=1e-5)
