"""`make bench` must finish what can be finished, and say what could not."""

import sys
from pathlib import Path

import pytest

from benchmarks import run


def test_a_failure_does_not_stop_the_others(capfd: pytest.CaptureFixture):
    failed = run.run(
        {
            "first": (sys.executable, "-c", "raise SystemExit(3)"),
            "second": (sys.executable, "-c", "print('second ran')"),
        }
    )
    out = capfd.readouterr().out
    assert failed == ["first"]
    assert "[1/2] first: failed with exit code 3 in 0 s" in out
    assert "second ran" in out
    assert "[2/2] second: done in 0 s" in out


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict]:
    """What would be run; everything named `cost` fails."""
    monkeypatch.setattr(run, "KEPT", tmp_path / "kept")
    run.KEPT.mkdir()
    seen: list[dict] = []

    def pretend(given: dict) -> list[str]:
        seen.append(given)
        return [name for name in given if name.endswith("cost")]

    monkeypatch.setattr(run, "run", pretend)
    return seen


def test_all_run_in_order_and_then_the_page(commands, capsys):
    assert run.main([]) == 1
    assert not run.KEPT.exists(), "a run of all starts from nothing"
    assert list(commands[0]) == [*run.BENCHMARKS, "docs/results.md"]
    assert commands[0]["benchmarks.speed.training"] == (sys.executable, "-m", "benchmarks.speed.training")
    assert "failed: benchmarks.quality.cost" in capsys.readouterr().err


def test_only_some(commands):
    assert run.main(["--only", "publish", "--only", "benchmarks.speed.embedding"]) == 0
    assert run.KEPT.exists(), "one may start from what others have kept"
    assert list(commands[0]) == ["benchmarks.speed.embedding", "benchmarks.speed.publish", "docs/results.md"]


def test_an_unknown_name_is_refused_before_anything_runs(commands, capsys):
    assert run.main(["--only", "nothing"]) == 2
    assert "no such benchmark" in capsys.readouterr().err
    assert commands == []


def test_the_list(capsys):
    assert run.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(run.BENCHMARKS)


def test_what_lacks_its_data_is_left_out_and_no_failure(capfd: pytest.CaptureFixture):
    assert run.run({"first": (sys.executable, "-c", "raise SystemExit(2)")}) == []
    assert "first: left out" in capfd.readouterr().out
