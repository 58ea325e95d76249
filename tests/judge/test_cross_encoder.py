"""The cross-encoder judge on disk and its grades."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from taoemb.config import JudgeTrainConfig
from taoemb.errors import InputError
from taoemb.judge.cross_encoder import CrossEncoder, CrossEncoderJudge, CrossEncoderSpec, lean, ordinal_log_probs
from taoemb.judge.graded import read_graded
from taoemb.judge.train import add_zero_shot, start_judge
from tests.judge.graded_shop import colour_shop, tiny_bert

QUERIES = ["red chair", "blue lamp", "mug", "black phone " * 40, ""]
ITEMS = [
    "title: chair 1\nattributes: colour: red",
    "title: lamp",
    "",
    "title: phone\ndescription: " + "a phone " * 99,
    "x",
]


@pytest.fixture(scope="module", params=["softmax", "ordinal"])
def folder(request, tmp_path_factory):
    base = tiny_bert(tmp_path_factory.mktemp("bert"))
    out = tmp_path_factory.mktemp("judge")
    torch.manual_seed(1)
    model = CrossEncoder(AutoModel.from_pretrained(base), request.param)
    spec = CrossEncoderSpec(head=request.param, max_tokens=24)
    judge = CrossEncoderJudge(model, AutoTokenizer.from_pretrained(base), spec, {})
    judge.save(out, {"base_model": "tiny"})
    return out, judge


def test_loads_back_with_the_same_grades(folder):
    out, judge = folder
    loaded = CrossEncoderJudge.load(out, precision="fp32")
    assert loaded.digest == judge.digest
    assert len(loaded.digest) == 64
    assert loaded.manifest["base_model"] == "tiny"
    np.testing.assert_allclose(loaded.score(QUERIES, ITEMS), judge.score(QUERIES, ITEMS), atol=1e-6)


def test_grades_are_probabilities_whatever_stands_beside_a_pair(folder):
    judge = CrossEncoderJudge.load(folder[0], precision="fp32")
    probs_P4 = judge.score(QUERIES, ITEMS)
    assert probs_P4.shape == (5, 4)
    assert probs_P4.dtype == np.float32
    assert (probs_P4 >= 0).all()
    np.testing.assert_allclose(probs_P4.sum(1), 1, atol=1e-5)
    alone = np.concatenate([judge.score([query], [item]) for query, item in zip(QUERIES, ITEMS, strict=True)])
    np.testing.assert_allclose(alone, probs_P4, atol=1e-5)
    assert np.ptp(probs_P4, axis=0).max() > 1e-3  # pairs differ, so the above says something


def test_bf16_grades_are_close(folder):
    exact, rounded = (CrossEncoderJudge.load(folder[0], precision=name) for name in ("fp32", "bf16"))
    np.testing.assert_allclose(rounded.score(QUERIES, ITEMS), exact.score(QUERIES, ITEMS), atol=0.03)


def test_no_pairs_and_unequal_lengths(folder):
    judge = folder[1]
    assert judge.score([], []).shape == (0, 4)
    with pytest.raises(ValueError, match="2 queries for 1 items"):
        judge.score(["a", "b"], ["x"])


@pytest.mark.parametrize("change", ["weights", "tokenizer", "spec", "missing", "no-json", "not-json", "foreign"])
def test_a_changed_folder_is_refused(folder, tmp_path, change):
    path = tmp_path / "judge"
    shutil.copytree(folder[0], path)
    manifest = json.loads((path / "judge.json").read_text())
    if change == "weights":
        with (path / "model.safetensors").open("ab") as file:
            file.write(b"\0")
    elif change == "tokenizer":
        (path / "tokenizer.json").write_text((path / "tokenizer.json").read_text().replace("red", "rod"))
    elif change == "spec":
        manifest["spec"]["max_tokens"] = 23
        (path / "judge.json").write_text(json.dumps(manifest))
    elif change == "missing":
        (path / "model.safetensors").unlink()
    elif change == "no-json":
        (path / "judge.json").unlink()
    elif change == "not-json":
        (path / "judge.json").write_text("{")
    else:
        (path / "judge.json").write_text(json.dumps(manifest | {"kind": "causal-lm"}))
    with pytest.raises(InputError, match=str(path)):
        CrossEncoderJudge.load(path)


@pytest.fixture(scope="module")
def leaning(tmp_path_factory):
    """A judge folder with the base model's cosine in it, and the judge that was saved there."""
    data = read_graded([colour_shop(tmp_path_factory.mktemp("shop") / "data")])
    base = tiny_bert(tmp_path_factory.mktemp("sentences") / "base", sentences=True)
    config = JudgeTrainConfig(model=str(base), max_tokens=32, zero_shot=6.0, precision="fp32")
    judge = add_zero_shot(start_judge(config), data, config)
    out = tmp_path_factory.mktemp("leaning")
    judge.save(out, {})
    return out, judge


def test_the_base_models_cosine_counts_as_evidence(leaning):
    judge = leaning[1]
    spec = judge.spec.zero_shot
    assert (spec.weight, spec.pooling, spec.item_prefix) == (6.0, "mean", "mug ")
    with_it = judge.score(QUERIES, ITEMS)
    without = CrossEncoderJudge(judge.model, judge.tokenizer, judge.spec, {}).score(QUERIES, ITEMS)
    cosines_P = judge.zero_shot.cosines(QUERIES, ITEMS)
    assert np.ptp(cosines_P) > 0.1
    odds = [np.log(probs[:, 3] / probs[:, 0]) for probs in (with_it, without)]
    np.testing.assert_allclose(odds[0] - odds[1], 6.0 * (cosines_P - spec.neutral), atol=1e-3)


def test_the_neutral_cosine_lies_between_good_and_bad_pairs(leaning, tmp_path):
    judge = leaning[1]
    pairs = read_graded([colour_shop(tmp_path / "shop")])
    cosines_P = judge.zero_shot.cosines(*pairs.texts(64))
    means = sorted(cosines_P[side].mean() for side in (pairs.grades >= 3, pairs.grades < 3))
    assert means[0] - 0.02 <= judge.spec.zero_shot.neutral <= means[1] + 0.02


def test_a_leaning_judge_loads_back_and_remembers_no_wrong_vector(leaning, monkeypatch):
    out, judge = leaning
    loaded = CrossEncoderJudge.load(out, precision="fp32")
    assert loaded.spec == judge.spec
    expected = judge.score(QUERIES, ITEMS)
    np.testing.assert_allclose(loaded.score(QUERIES, ITEMS), expected, atol=0.02)  # the base is kept in bf16
    first = loaded.score(QUERIES, ITEMS)
    monkeypatch.setattr("taoemb.judge.zero_shot.REMEMBERED", 3)
    for _ in range(3):
        np.testing.assert_allclose(loaded.score(QUERIES[::-1], ITEMS[::-1])[::-1], first, atol=1e-5)


def test_a_base_model_without_a_pooling_of_its_own_gives_no_cosine(tmp_path):
    data = read_graded([colour_shop(tmp_path / "shop")])
    config = JudgeTrainConfig(model=str(tiny_bert(tmp_path / "plain")), max_tokens=32, zero_shot=6.0)
    assert add_zero_shot(start_judge(config), data, config).spec.zero_shot is None


@given(st.lists(st.floats(0.001, 1), min_size=4, max_size=4), st.floats(-9, 9))
def test_evidence_moves_the_log_odds_and_keeps_a_distribution(masses, evidence):
    probs_P4 = (np.array([masses]) / sum(masses)).astype(np.float32)
    moved_P4 = lean(probs_P4, np.array([evidence], dtype=np.float32))
    assert moved_P4.sum() == pytest.approx(1, abs=1e-5)
    odds = [np.log(p[0, 3]) - np.log(p[0, 0]) for p in (moved_P4.astype(float), probs_P4.astype(float))]
    assert odds[0] - odds[1] == pytest.approx(evidence, abs=0.02)


@given(st.floats(-20, 20), st.floats(-5, 5), st.lists(st.floats(-5, 5), min_size=2, max_size=2))
def test_ordinal_grades_are_a_distribution_that_rises_with_the_score(score, first, steps):
    def expected(value: float) -> float:
        log_probs = ordinal_log_probs(torch.tensor([[value]]), torch.tensor(first), torch.tensor(steps))
        probs = log_probs.exp()
        assert probs.shape == (1, 4)
        assert abs(probs.sum().item() - 1) < 1e-3
        return (probs @ torch.arange(4.0)).item()

    assert expected(score + 1) >= expected(score) - 1e-3
