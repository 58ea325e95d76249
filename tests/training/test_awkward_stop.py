"""A run that is stopped between two refreshes of its index goes on with that index, not with a fresher one."""

import json
import signal
from contextlib import nullcontext

import pytest

from taoemb.errors import TaoembError
from taoemb.training.distributed import joined_ranks
from taoemb.training.entry import _parse, run
from taoemb.training.tracking import JsonLines
from tests.training.conftest import SMALL, records

STEPS, STOP = 7, 4  # the index is embedded at steps 0, 3 and 6


@pytest.fixture(scope="module")
def ranks():
    """One process group for all runs here: DeepSpeed can't take a second one in a process."""
    with joined_ranks() as ranks:
        yield ranks


@pytest.fixture
def trained(shop, release, judge, ranks, monkeypatch):
    """Runs an objective in this process and returns its records."""
    monkeypatch.setattr("taoemb.training.entry.joined_ranks", lambda: nullcontext(ranks))

    def trained(objective, out, *settings):
        chosen = (*SMALL, f"judge.url={judge.url}", f"{objective}.steps={STEPS}", "engine.checkpoint_every=100")
        arguments = ["--data", str(shop), "--out", str(out), "--release", str(release)]
        for setting in (*chosen, f"{objective}.refresh=3", *settings):
            arguments += ["--set", setting]
        run(objective, _parse(objective, arguments))
        return records(out)

    return trained


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
def test_a_stop_between_refreshes_changes_no_number(objective, settings, trained, monkeypatch, tmp_path):
    unbroken = trained(objective, tmp_path / "unbroken", *settings)
    record = JsonLines.record

    def stop(self, step, metrics):
        record(self, step, metrics)
        if step == STOP:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "record", stop)
        with pytest.raises(TaoembError, match="stopped before step 5"):
            trained(objective, tmp_path / "stopped", *settings)
    resumed = trained(objective, tmp_path / "stopped", *settings)
    assert json.loads((tmp_path / "stopped" / "summary.json").read_text())["resumed_at"] == STOP + 1
    assert [r["index_age"] for r in resumed] == [1, 2, 3, 1, 2, 3, 1]
    assert [comparable(r) for r in resumed] == [pytest.approx(comparable(r), abs=1e-6) for r in unbroken]
