"""A run that had nothing to learn from says so: while it runs, at its end, and in what it leaves behind."""

import json

import numpy as np
import pytest

from taoemb.config import EngineConfig
from taoemb.rewards.combine import Rewards
from taoemb.training.alarms import Alarms
from taoemb.training.distributed import joined_ranks
from taoemb.training.policy import reward_metrics
from taoemb.training.rewarding import Scored
from tests.judge.stub import Stub, serving
from tests.training.conftest import records

FLAT = {"zero_variance_share": 1.0, "relevance": 0.25, "relevance_std": 0.0, "reward_std": 0.0}
LIVELY = {"zero_variance_share": 0.9, "relevance": 0.25, "relevance_std": 0.1, "reward_std": 0.1}


def told(steps):
    alarms = Alarms(EngineConfig())
    said = [text for step, metrics in enumerate(steps) for text in alarms.check(step, metrics)]
    return said, alarms.at_the_end(), alarms


def test_five_flat_steps_in_a_row_raise_one_alarm():
    said, _, alarms = told([LIVELY, *[FLAT] * 20, LIVELY])
    assert len(said) == 1
    assert said[0].startswith("step 5: no group had different rewards for 5 steps: the judge gives 0.25 for everything")
    assert alarms.raised == said


def test_flat_steps_that_are_not_in_a_row_raise_none():
    said, end, _ = told([FLAT, FLAT, FLAT, FLAT, LIVELY] * 4)
    assert said == end == []


def test_a_short_run_without_a_signal_says_so_at_its_end():
    said, end, alarms = told([FLAT] * 3)
    assert said == []
    assert "in none of 3 steps did the judge's grades make a difference" in end[0]
    assert alarms.raised == end


def test_grades_that_never_differ_are_noticed_behind_other_rewards():
    said, end, _ = told([FLAT | {"zero_variance_share": 0.0, "reward_std": 0.02, "relevance": 1.0}] * 6)
    assert "no group had different grades" in said[0]
    assert "the judge gives 1 for everything" in said[0]
    assert end


def test_objectives_without_rewards_raise_none():
    assert told([{"loss": 1.0}] * 30)[:2] == ([], [])


def test_alarms_survive_a_checkpoint():
    first = Alarms(EngineConfig())
    for step in range(3):
        assert first.check(step, FLAT) == []
    second = Alarms(EngineConfig())
    second.load_state(json.loads(json.dumps(first.state())))
    assert second.check(3, FLAT) == []
    assert len(second.check(4, FLAT)) == 1
    assert len(second.raised) == 1


@pytest.mark.parametrize(("grade", "given"), [(2, "0.333"), (4, "1")])
def test_awkward_judge_that_answers_the_same_for_all(grade, given, start, release, tmp_path):
    """Also one that finds everything excellent, where quality and exclusivity still tell items apart."""
    probs = [1.0 if label == grade else 0.0 for label in (1, 2, 3, 4)]
    with serving(Stub(grade=lambda query, item: probs)) as url:
        job = start("grpo", tmp_path / "run", f"judge.url={url}", release=release)
        said = job.communicate(timeout=240)[1]
    assert job.returncode == 0, said
    assert f"the judge gives {given} for everything" in said
    assert "end: in none of 6 steps" in said
    kept = json.loads((tmp_path / "run" / "summary.json").read_text())["alarms"]
    assert any(given in text for text in kept)
    assert json.loads((tmp_path / "run" / "release" / "release.json").read_text())["training"]["alarms"] == kept
    assert all(r["relevance_std"] < 1e-6 for r in records(tmp_path / "run"))


def rewards(relevance_QK):
    relevance_QK = np.array(relevance_QK, dtype=np.float32)
    return Scored(Rewards(relevance_QK, relevance_QK, relevance_QK, relevance_QK), 0, 0, 0, 0.1)


def test_reward_std_is_of_the_answers_within_groups():
    nan = float("nan")
    with joined_ranks() as ranks:
        got = reward_metrics(rewards([[1, nan, 0], [0.5, 0.5, 0.5], [nan, 1, nan], [nan, nan, nan]]), ranks)
        nothing = reward_metrics(rewards([[nan, nan]]), ranks)
    assert got["reward_std"] == got["relevance_std"] == pytest.approx(0.25)
    assert got["relevance"] == pytest.approx(3.5 / 6)
    assert not {"reward", "relevance", "reward_std"} & nothing.keys()  # nothing is invented
    assert nothing["unanswered_share"] == 1
