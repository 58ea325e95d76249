"""A run pays for a judgment once, whether or not its settings name a cache."""

from pathlib import Path

import torch

from taoemb.judge.probe import PAIRS
from taoemb.training.checkpoint import RunFolder
from taoemb.training.distributed import Ranks

STEPS = "grpo.steps=10"  # two passes over the 40 queries


def test_without_a_cache_named_the_run_keeps_its_own(train, release, judge, tmp_path):
    out = tmp_path / "run"
    got = train("grpo", out, f"judge.url={judge.url}", STEPS, release=release, ranks=2)
    assert len(judge.pairs) == len(set(judge.pairs)) == PAIRS + sum(r["judge_asked"] for r in got)
    assert all(r["judge_hit_rate"] > 0 for r in got[5:])
    assert [path.name for path in out.glob("*.sqlite*")] == ["judgments.sqlite"]


def test_a_cache_that_is_named_is_used_instead_and_serves_the_next_run(train, release, judge, tmp_path):
    settings = (f"judge.url={judge.url}", f"judge.cache={tmp_path / 'shared.sqlite'}")
    train("grpo", tmp_path / "one", *settings, release=release)
    asked = len(judge.pairs)
    again = train("grpo", tmp_path / "two", *settings, release=release)
    assert len(judge.pairs) == asked
    assert all(r["judge_hit_rate"] == 1 for r in again)
    assert not list(tmp_path.glob("*/judgments*"))


def test_ranks_of_two_machines_do_not_share_a_file():
    folder, cpu = RunFolder(Path("run")), torch.device("cpu")
    names = [folder.judgments(Ranks(rank, 4, cpu, node=rank // 2 * 2)).name for rank in range(4)]
    assert names == ["judgments.sqlite", "judgments.sqlite", "judgments-2.sqlite", "judgments-2.sqlite"]
