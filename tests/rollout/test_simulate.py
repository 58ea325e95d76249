"""Whole simulated rollouts: the real gateway, Milvus Lite, database, judge client, statistics and engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from taoemb.errors import InputError
from taoemb.rollout.plan import Plan, Step
from taoemb.rollout.simulate.options import PLAN, Options
from taoemb.rollout.simulate.run import SimulationResult, simulate
from taoemb.rollout.simulate.scenario import Outage, Scenario

QUICK = PLAN.model_copy(
    update={
        "steps": (Step(percent=30, min_units=60), Step(percent=50, min_units=100)),
        "look_every_s": 0.5,
        "event_window_s": 0.5,
    }
)


def run(folder: Path, scenario: Scenario, **changes: Any) -> SimulationResult:
    small = {"items": 300, "queries": 60, "shoppers": 1500, "concurrency": 4, "plan": QUICK, "seed": 1}
    return simulate(Options(folder / "out", scenario, **(small | changes)))


@pytest.mark.slow
def test_a_better_candidate_is_promoted(tmp_path: Path) -> None:
    result = run(tmp_path, Scenario(lift=0.35, quality=0.15))
    result.log.check()
    assert (result.state.phase, result.held.verdict_is) == ("Promoted", "right")
    assert result.estimate is not None
    assert result.estimate.low - 0.1 <= result.held.average <= result.estimate.high + 0.1
    assert result.held.average == pytest.approx(0.35)
    tree = json.loads((result.report.parent / "report.json").read_text(encoding="utf-8"))
    assert tree["looks"][-1]["verdict"]["outcome"] == "promote"
    assert result.to_json()["failed"] == 0


@pytest.mark.slow
def test_a_worse_candidate_is_rolled_back_through_outages(tmp_path: Path) -> None:
    """The control's encoder and the judge go away for a while: no search fails."""
    outages = (Outage("control", 0.02, 0.06), Outage("judge", 0.01, 0.08))
    result = run(tmp_path, Scenario(lift=-0.35, quality=0.5, outages=outages))
    result.log.check()
    assert (result.state.phase, result.held.verdict_is) == ("RolledBack", "right")
    assert result.log.served["control", "candidate"] > 0, "the candidate stood in"


@pytest.mark.slow
def test_a_candidate_that_goes_away_costs_no_search(tmp_path: Path) -> None:
    result = run(tmp_path, Scenario(lift=0.0, outages=(Outage("candidate", 0.05, 0.6),)), shoppers=500)
    result.log.check()
    assert result.log.served["candidate", "control"] > 0
    assert result.state.phase != "Promoted"


def test_a_plan_of_another_metric_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="item_goodrate"):
        simulate(Options(tmp_path / "out", Scenario(), Plan(metric="click_rate")))


def test_a_truth_out_of_reach_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="out of reach"):
        run(tmp_path, Scenario(lift=0.9))


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is not empty"):
        run(tmp_path, Scenario())
