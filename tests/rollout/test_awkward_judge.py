"""A rollout does not start under a judge that is set up wrongly; one that is away only delays its pages."""

from pathlib import Path

import pytest
from starlette.responses import JSONResponse

from taoemb.config import Config, JudgeConfig
from taoemb.errors import InputError
from taoemb.judge.failures import JudgeUnfit
from taoemb.judge.probe import PAIRS
from taoemb.rollout.local.start import start_local
from taoemb.rollout.plan import Plan
from tests.judge.stub import Stub, free_port, serving
from tests.retrieval.conftest import make_releases


def test_awkward_judge_stops_the_start_of_a_rollout(tmp_path: Path) -> None:
    releases = make_releases(tmp_path / "releases")
    said: list[str] = []

    def start(url: str) -> None:
        config = Config(heldout_judge=JudgeConfig(url=url, wait_s=0.2))
        folder, both = tmp_path / "rollout", (releases.base.path, releases.other.path)
        start_local(folder, Plan(), *both, config, warn=said.append)

    stub = Stub(change=lambda answer: answer | {"choices": []})
    with serving(stub) as url, pytest.raises(JudgeUnfit, match="answered none of the pairs, of 16 tried first"):
        start(url)
    assert len(stub.requests) == PAIRS
    assert not (tmp_path / "rollout").exists()
    assert said == []
    with serving(Stub(fault=lambda pairs: JSONResponse({}, 401))) as url, pytest.raises(JudgeUnfit, match="api_key"):
        start(url)
    with pytest.raises(InputError, match="taoemb publish"):  # the next thing that is looked at
        start(f"http://127.0.0.1:{free_port()}/v1")
    assert len(said) == 1
    assert "Connection refused" in said[0]
    assert said[0].endswith("pages wait until it is there")
