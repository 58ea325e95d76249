"""Training a judge: it learns, repeats by seed, keeps parts apart, and leaves nothing behind when it is stopped."""

import itertools
import json
import signal
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel

from taoemb.cli.main import main
from taoemb.config import JudgeTrainConfig
from taoemb.errors import InputError
from taoemb.judge import train as training
from taoemb.judge.cross_encoder import CrossEncoder, CrossEncoderJudge
from taoemb.judge.graded import part_of, read_graded
from taoemb.judge.train import grade_loss, train_judge
from tests.judge.graded_shop import colour_shop, tiny_bert, write_dataset

ITEM = {"title": "a thing"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return colour_shop(tmp_path_factory.mktemp("shop") / "data", easy=True)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    base = tiny_bert(tmp_path_factory.mktemp("bert") / "base")
    return JudgeTrainConfig(
        model=str(base), epochs=6, batch_size=32, lr=5e-3, max_tokens=32, zero_shot=0, precision="fp32", valid=0.2
    )


@pytest.fixture(scope="module")
def trained(shop, settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "judge"
    return out, train_judge([shop], out, settings)


def test_a_judge_learns_grades_of_queries_it_has_not_seen(trained, shop):
    out, manifest = trained
    held_out = manifest["held_out"]
    assert held_out["queries"] == 5
    assert held_out["auc"]["value"] > 0.9
    assert held_out["kappa"]["value"] > 0.6
    judge = CrossEncoderJudge.load(out)
    good, bad = judge.score(
        ["red mug"] * 2, ["title: mug\nattributes: colour: red", "title: mug\nattributes: colour: black"]
    )
    assert good @ np.arange(4) > bad @ np.arange(4) + 1


def test_the_folder_tells_what_the_judge_is(trained, settings, shop):
    out, manifest = trained
    assert json.loads((out / "judge.json").read_text()) == manifest
    assert manifest["kind"] == "cross-encoder"
    assert manifest["base_model"] == settings.model
    assert manifest["max_tokens"] == 32
    assert manifest["item_tokens"] == settings.item_tokens
    counts = manifest["trained_on"]
    assert counts["queries"] == 19
    assert counts["pairs"] == 19 * 24 == sum(counts["grades"].values()) == counts["sources"]["rule"]
    assert [point["step"] for point in manifest["history"]] == sorted(point["step"] for point in manifest["history"])


def test_the_same_seed_gives_the_same_judge(trained, shop, settings, tmp_path):
    again = train_judge([shop], tmp_path / "again", settings)
    assert again["digest"] == trained[1]["digest"]
    other = train_judge([shop], tmp_path / "other", settings.model_copy(update={"seed": 1, "epochs": 0.5}))
    assert other["digest"] != trained[1]["digest"]


def test_two_judges_on_two_parts_share_no_query(shop, settings, tmp_path):
    quick = settings.model_copy(update={"epochs": 0.1, "query_share": 0.5})
    counts = [
        train_judge([shop], tmp_path / str(part), quick.model_copy(update={"query_part": part, "seed": part}))
        for part in (0, 1)
    ]
    queries = [c["trained_on"]["queries"] + c["held_out"]["queries"] for c in counts]
    assert sum(queries) == 24
    groups = [set(part_of(read_graded([shop]), 0.5, part).groups) for part in (0, 1)]
    assert not groups[0] & groups[1]


def test_several_folders_train_one_judge(shop, settings, tmp_path):
    human = colour_shop(tmp_path / "human", source="human")
    manifest = train_judge([shop, human], tmp_path / "out", settings.model_copy(update={"epochs": 0.1}))
    assert set(manifest["trained_on"]["sources"]) == {"rule", "human"}
    assert manifest["trained_on"]["pairs"] == 2 * 19 * 24


def test_an_interrupted_run_leaves_nothing_and_an_older_judge_stands(trained, shop, settings):
    out, manifest = trained

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            train_judge([shop], out, settings.model_copy(update={"epochs": 10_000}))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert CrossEncoderJudge.load(out).digest == manifest["digest"]


def test_bad_input_is_refused_before_training(shop, settings, tmp_path):
    started = time.monotonic()
    one_grade = write_dataset(
        tmp_path / "flat", [(name, ()) for name in "abcdefgh"], [ITEM], [(q, 0, 4, "") for q in range(8)]
    )
    with pytest.raises(InputError, match="every training pair has grade 4"):
        train_judge([one_grade], tmp_path / "out", settings)
    with pytest.raises(InputError, match="judgments"):
        train_judge([write_dataset(tmp_path / "none", [("a", ())], [ITEM], [])], tmp_path / "out", settings)
    with pytest.raises(InputError, match=r"judge_train\.model"):
        train_judge([shop], tmp_path / "out", settings.model_copy(update={"model": str(tmp_path / "nowhere")}))
    with pytest.raises(InputError, match="reads at most 64 tokens"):
        train_judge([shop], tmp_path / "out", settings.model_copy(update={"max_tokens": 65}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        train_judge([shop], tmp_path / "full", settings)
    with pytest.raises(InputError, match="is a file"):
        train_judge([shop], tmp_path / "full" / "notes.txt", settings)
    assert not (tmp_path / "out").exists()
    assert time.monotonic() - started < 20


def test_the_command_prints_the_agreement(shop, settings, tmp_path, capsys):
    overrides = [
        f"--set=judge_train.{key}={value}" for key, value in settings.model_dump().items() if value is not None
    ]
    with pytest.raises(SystemExit) as done:
        main(
            [
                "judge",
                "train",
                "--data",
                str(shop),
                "--out",
                str(tmp_path / "j"),
                *overrides,
                "--set=judge_train.epochs=0.1",
            ]
        )
    assert done.value.code == 0
    assert "pair accuracy" in capsys.readouterr().out
    with pytest.raises(SystemExit) as failed:
        main(["judge", "train", "--data", str(tmp_path), "--out", str(tmp_path / "k")])
    assert failed.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@given(st.integers(1, 4), st.floats(0.01, 0.5))
def test_the_loss_is_least_at_the_given_grade_and_spares_its_neighbours(grade, smoothing):
    def loss(said: int) -> float:
        log_probs = torch.full((1, 4), 0.02).scatter(1, torch.tensor([[said - 1]]), 0.94).log()
        return grade_loss(log_probs, torch.tensor([grade - 1]), smoothing).item()

    by_distance = sorted((abs(said - grade), loss(said)) for said in (1, 2, 3, 4))
    for (_, smaller), (_, larger) in itertools.pairwise(by_distance):
        assert smaller <= larger + 1e-6


def test_frozen_layers_and_embeddings_keep_their_weights(shop, settings, tmp_path):
    fixed = settings.model_copy(update={"frozen_layers": 1, "epochs": 0.5})
    train_judge([shop], tmp_path / "j", fixed)
    before, after = (
        CrossEncoder(AutoModel.from_pretrained(settings.model), "softmax"),
        CrossEncoderJudge.load(tmp_path / "j", precision="fp32").model,
    )
    old, new = before.state_dict(), after.state_dict()
    held = [name for name in old if "embeddings" in name or "layer.0." in name]
    assert len(held) > 10
    assert all(torch.equal(old[name], new[name]) for name in held)
    assert not torch.equal(old["head.weight"], new["head.weight"])


def test_batches_hold_every_pair_once_a_pass_and_like_lengths():
    lengths = np.random.default_rng(0).integers(5, 90, 1000)
    batches = list(training._batches(lengths, 50, 20, seed=1))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    spread = np.mean([np.ptp(lengths[rows]) for rows in batches])
    assert spread < 0.2 * np.ptp(lengths)
    same = list(training._batches(lengths, 50, 20, seed=1))
    assert all((a == b).all() for a, b in zip(batches, same, strict=True))
