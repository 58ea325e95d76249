"""Sixteen pairs first, in every job that uses a judge: one that is set up wrongly stops it before the costly part."""

from pathlib import Path

import numpy as np
import pytest

from taoemb.config import JudgeConfig
from taoemb.data.dataset import open_dataset
from taoemb.judge import calibrate as calibration
from taoemb.judge.failures import JudgeUnfit
from taoemb.judge.probe import FIXED, PAIRS, pairs_of, probe
from tests.judge.clients import client
from tests.judge.graded_shop import colour_shop, write_dataset
from tests.judge.stub import Stub, serving


def silent(answer: dict) -> dict:
    return answer | {"choices": []}


def silent_after(pairs: int, stub: Stub) -> Stub:
    """Answers that many pairs, and then none."""
    stub.change = lambda answer: answer if len(stub.pairs) <= pairs else silent(answer)
    return stub


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_shop(tmp_path_factory.mktemp("probe") / "data", source="human")


@pytest.mark.parametrize(
    ("answered", "settings", "says"),
    [
        (0, {}, "answered none of the pairs, of 16 tried first: no choice for it"),
        (1, {}, "answered only 1 of 16 pairs tried first: no choice for it"),
        (7, {}, "answered only 7 of 16"),
        (8, {}, None),
        (7, {"max_unanswered": 0.6}, None),
        (7, {"max_unanswered": 0.01}, "answered only 7 of 16"),
        (9, {"max_unanswered": 0.01}, None),  # what chance may do is left to the steps
        (0, {"max_unanswered": 1}, "answered none"),
        (16, {}, None),
    ],
)
def test_awkward_shares_of_the_first_pairs(answered: int, settings: dict, says: str | None) -> None:
    stub = silent_after(answered, Stub())
    with serving(stub) as url, client(url, concurrency=1, **settings) as judge:
        if says is None:
            assert probe(judge) == PAIRS
            return
        with pytest.raises(JudgeUnfit, match=says) as failure:
            probe(judge)
    assert url in str(failure.value)
    assert len(stub.requests) == PAIRS


def test_awkward_answers_to_the_probe_are_paid_for_once(tmp_path: Path) -> None:
    stub = Stub()
    with serving(stub) as url:
        with client(url) as judge:
            assert [probe(judge), probe(judge)] == [PAIRS, 0]
            assert judge.grade(*FIXED).cached == PAIRS
        with client(url, cache=tmp_path / "c") as judge:
            assert probe(judge) == PAIRS
        with client(url, cache=tmp_path / "c") as judge:
            assert probe(judge) == 0
    assert len(stub.pairs) == 2 * PAIRS


def test_the_first_pairs_are_spread_over_the_data(shop: Path, tmp_path: Path) -> None:
    data = open_dataset(shop, need=("items", "queries", "judgments"))
    queries, items = pairs_of(data)
    assert len(queries) == len(items) == PAIRS
    assert len(set(queries)) > 10
    few = pairs_of(data, np.array([5, 9]))
    assert len(few[0]) == 2
    (tmp_path / "bare").mkdir()
    for name in ("items", "queries"):
        (tmp_path / "bare" / f"{name}.parquet").write_bytes((shop / f"{name}.parquet").read_bytes())
    bare = pairs_of(open_dataset(tmp_path / "bare", need=("items", "queries")))
    assert len(set(bare[0])) == PAIRS
    assert all(item["title"] for item in bare[1])
    write_dataset(tmp_path / "empty", [], [{"title": "mug"}], [])
    assert pairs_of(open_dataset(tmp_path / "empty", need=("items", "queries"))) is FIXED


def test_awkward_judge_stops_a_calibration_first(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_grade", None)
    stub = silent_after(5, Stub())
    with serving(stub) as url, pytest.raises(JudgeUnfit, match="answered only 5 of 16"):
        calibration.calibrate(shop, JudgeConfig(url=url, concurrency=1), tmp_path / "out")
    assert len(stub.requests) == PAIRS
    assert list(tmp_path.iterdir()) == []
