"""A held-out judge that is set up wrongly stops an evaluation before anything is embedded or ranked."""

from pathlib import Path

import pytest

from taoemb.config import Config, JudgeConfig
from taoemb.encoder.release import Release
from taoemb.evaluation import run
from taoemb.judge.failures import JudgeUnfit
from taoemb.judge.probe import PAIRS
from tests.judge.stub import Stub, serving


@pytest.mark.parametrize(("keep", "says"), [(0, "answered none of the pairs, of 16"), (5, "answered only 5 of 16")])
def test_awkward_judge_stops_an_evaluation_first(
    keep: int, says: str, shop: Path, child: Release, settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "rank_all", None)  # nothing is ranked
    stub = Stub()
    stub.change = lambda answer: answer if len(stub.pairs) <= keep else answer | {"choices": []}
    with serving(stub) as url:
        config = settings.model_copy(update={"heldout_judge": JudgeConfig(url=url, concurrency=1)})
        with pytest.raises(JudgeUnfit, match=says):
            run.evaluate(child.path, shop, tmp_path / "out", config, judge=True)
    assert len(stub.requests) == PAIRS
    assert list(tmp_path.iterdir()) == []
