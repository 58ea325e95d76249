"""Calibration against an endpoint that tests script, and against a judge folder served for real."""

import json

import numpy as np
import pytest

from taoemb.cli.main import main
from taoemb.config import JudgeConfig, JudgeTrainConfig
from taoemb.errors import InputError, TaoembError
from taoemb.judge.calibrate import calibrate
from taoemb.judge.train import train_judge
from tests.judge.graded_shop import COLOURS, THINGS, colour_shop, tiny_bert, write_dataset
from tests.judge.stub import Stub, serving


def knows(query: str, item: str) -> tuple[float, ...]:
    """The shop's own grades, said with a doubt."""
    colour, thing = query.split()
    grade = 1 + 2 * (f"title: {thing} " in item) + (f"colour: {colour}" in item)
    return tuple(0.85 if label == grade else 0.05 for label in (1, 2, 3, 4))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return colour_shop(tmp_path_factory.mktemp("shop") / "data", source="human")


def settings(url: str, **more) -> JudgeConfig:
    return JudgeConfig(url=url, wait_s=0.5, batch_size=64, **more)


def test_a_judge_that_grades_like_people(shop, tmp_path):
    with serving(Stub(grade=knows)) as url:
        result = calibrate(shop, settings(url), tmp_path / "out")
    assert result == json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert (result["pairs"], result["queries"], result["unanswered"]) == (576, 24, 0)
    assert result["judge"]["release"] == "d1"
    everything = result["measures"]["all"]
    assert everything["auc"]["value"] == everything["pair_accuracy"]["value"] == everything["kappa"]["value"] == 1
    assert everything["brier"]["value"] == pytest.approx(0.01)
    assert np.array_equal(result["confusion"], np.diag([360, 120, 72, 24]))
    assert set(result["measures"]) == {"all", *THINGS}
    assert result["measures"]["mug"]["pairs"] == 96
    assert result["sources"] == {"human": 576}


def test_the_page_stands_alone_and_escapes(tmp_path):
    queries = [(f"{colour} mug", ("<b>odd</b>",)) for colour in COLOURS]
    items = [{"title": "mug 1", "attributes": [("colour", "red")]}, {"title": "lamp 2"}]
    data = write_dataset(
        tmp_path / "d", queries, items, [(q, i, 1 + 3 * (i == 0), "") for q in range(4) for i in (0, 1)]
    )
    with serving(Stub(grade=knows)) as url:
        calibrate(data, settings(url), tmp_path / "out")
    page = (tmp_path / "out" / "calibration.html").read_text()
    assert "&lt;b&gt;odd&lt;/b&gt;" in page
    assert "<b>odd" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert page.count("<circle") == len(json.loads((tmp_path / "out" / "calibration.json").read_text())["reliability"])


def test_unanswered_pairs_are_counted_and_in_no_number(shop, tmp_path):
    def drop(answer: dict) -> dict:
        for choice in answer["choices"]:
            top = choice["logprobs"]["content"][0]["top_logprobs"]
            if top[0]["token"] == "3":  # every pair of grade 3 gets an answer without a label
                choice["logprobs"]["content"][0]["top_logprobs"] = [{"token": "well", "logprob": -0.1, "bytes": None}]
        return answer

    with serving(Stub(grade=knows, change=drop)) as url:
        result = calibrate(shop, settings(url), tmp_path / "out")
    assert result["unanswered"] == 72
    assert result["pairs"] == 576
    assert np.sum(result["confusion"]) == 576 - 72
    assert result["grades"] == {"1": 360, "2": 120, "4": 24}
    assert result["measures"]["all"]["auc"]["value"] == 1
    assert "72 of 576 pairs got no answer" in (tmp_path / "out" / "calibration.html").read_text()


def test_a_judge_that_answers_nothing_fails_and_writes_nothing(shop, tmp_path):
    def nothing(answer: dict) -> dict:
        return {"choices": []}

    with serving(Stub(change=nothing)) as url, pytest.raises(TaoembError, match="answered none"):
        calibrate(shop, settings(url), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_one_source(tmp_path):
    queries = [("red mug", ()), ("red lamp", ())]
    items = [{"title": "mug 1"}, {"title": "lamp 2"}]
    graded = [(0, 0, 3, "human"), (0, 1, 1, "human"), (1, 0, 4, "rule"), (1, 1, 3, "rule")]
    data = write_dataset(tmp_path / "d", queries, items, graded)
    with serving(Stub(grade=knows)) as url:
        result = calibrate(data, settings(url), tmp_path / "out", source="human")
        assert (result["pairs"], result["sources"]) == (2, {"human": 2})
        with pytest.raises(InputError, match="no judgment of source 'expert'; it has human, rule"):
            calibrate(data, settings(url), tmp_path / "out2", source="expert")


def test_bad_input(shop, tmp_path):
    with pytest.raises(InputError, match="--judge-url URL or --judge DIR"):
        calibrate(shop, JudgeConfig(), tmp_path / "out")
    with pytest.raises(InputError, match="--judge-url URL or --judge DIR"):
        calibrate(shop, JudgeConfig(url="http://127.0.0.1:9/v1"), tmp_path / "out", judge=tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        calibrate(shop, JudgeConfig(), tmp_path / "out", judge=tmp_path / "nowhere")
    none = write_dataset(tmp_path / "none", [("a", ())], [{"title": "x"}], [])
    with pytest.raises(InputError, match="holds no judgment"):
        calibrate(none, JudgeConfig(url="http://127.0.0.1:9/v1"), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        calibrate(shop, JudgeConfig(url="http://127.0.0.1:9/v1"), tmp_path / "full")
    assert not (tmp_path / "out").exists()


def test_the_command_serves_a_judge_folder_and_measures_it(tmp_path, capsys):
    shop = colour_shop(tmp_path / "shop", easy=True)
    config = JudgeTrainConfig(
        model=str(tiny_bert(tmp_path / "base")), epochs=6, batch_size=32, lr=5e-3, max_tokens=32, zero_shot=0
    )
    trained = train_judge([shop], tmp_path / "judge", config)
    command = [
        "judge",
        "calibrate",
        "--data",
        str(shop),
        "--judge",
        str(tmp_path / "judge"),
        "--out",
        str(tmp_path / "c"),
    ]
    with pytest.raises(SystemExit) as done:
        main([*command, "--json"])
    assert done.value.code == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["judge"]["release"] == trained["digest"]
    assert result["unanswered"] == 0
    assert result["measures"]["all"]["auc"]["value"] > 0.9
