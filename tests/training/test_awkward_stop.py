"""A run that is stopped between two refreshes of its index goes on with that index, not with a fresher one."""

import json

import pytest

from taoemb.errors import TaoembError

STEPS, STOP = 7, 4  # the index is embedded at steps 0, 3 and 6


def comparable(record):
    changing = ("judge_", "queries_per_s", "step_s", "time/")
    return {name: value for name, value in record.items() if not name.startswith(changing)}


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("grpo", ("grpo.towers=both", "grpo.staleness=2")),
        ("grpo", ("grpo.towers=alternating", "grpo.staleness=0")),
        ("live_infonce", ("live_infonce.towers=both",)),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_stop_between_refreshes_changes_no_number(objective, settings, train_here, release, tmp_path):
    chosen = (*settings, f"{objective}.steps={STEPS}", f"{objective}.refresh=3", "engine.checkpoint_every=100")
    unbroken = train_here(objective, tmp_path / "unbroken", *chosen, release=release)
    with pytest.raises(TaoembError, match=f"stopped before step {STOP + 1}"):
        train_here(objective, tmp_path / "stopped", *chosen, release=release, stop_after=STOP)
    resumed = train_here(objective, tmp_path / "stopped", *chosen, release=release)
    assert json.loads((tmp_path / "stopped" / "summary.json").read_text())["resumed_at"] == STOP + 1
    assert [r["index_age"] for r in resumed] == [1, 2, 3, 1, 2, 3, 1]
    assert [comparable(r) for r in resumed] == [pytest.approx(comparable(r), abs=1e-6) for r in unbroken]
