"""What a benchmark keeps must be readable as it is, and ratios must be taken round by round."""

import datetime
import json
import sys
from pathlib import Path

import pytest

from benchmarks import record as module
from benchmarks.record import Aim, Record, Table, in_turn, machine, ratio


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "benchmarks" / "speed").mkdir(parents=True)
    return Record(str(tmp_path / "benchmarks" / "speed" / "example.py"), "An example")


def test_a_record_says_what_where_when_and_how(record: Record, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["example.py", "--more"])
    record.tables.append(Table("Times", ["what", "ms"], [["ours", "1.0"]], "Side by side."))
    record.aims.append(Aim("Twice as fast", "1.5×", False, "bigger batches"))
    record.notes.append("One core.")
    file = record.save()
    assert file == record.path.parent / "results" / "example.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["title"] == "An example"
    assert found["command"] == "python -m benchmarks.speed.example --more"
    assert found["date"] == datetime.date.today().isoformat()
    assert found["machine"] == machine()
    assert found["seconds"] >= 0
    expected = {"title": "Times", "head": ["what", "ms"], "rows": [["ours", "1.0"]], "text": "Side by side."}
    assert found["tables"] == [expected]
    assert found["aims"] == [{"aim": "Twice as fast", "measured": "1.5×", "met": False, "tried": "bigger batches"}]
    assert found["notes"] == ["One core."]


def test_saving_again_replaces(record: Record):
    record.save()
    record.notes.append("later")
    assert json.loads(record.save().read_text())["notes"] == ["later"]


def test_the_machine_is_named():
    assert "cores, " in machine()
    assert "torch " in machine()


def test_a_ratio_is_taken_round_by_round():
    # The machine was twice as slow in the second round; a ratio of the means would hide that nothing changed.
    found = ratio([2.0, 4.0, 3.0], [1.0, 2.0, 1.0])
    assert (found.median, found.low, found.high) == (2.0, 2.0, 3.0)
    assert str(found) == "2.00× [2.00, 3.00]"
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])


def test_contenders_take_turns_and_the_order_turns():
    order: list[str] = []

    def contender(name: str):
        return lambda: order.append(name) or float(len(order))

    found = in_turn({name: contender(name) for name in "abc"}, 3)
    assert "".join(order) == "abcbcacab"
    assert found == {"a": [1.0, 6.0, 8.0], "b": [2.0, 4.0, 9.0], "c": [3.0, 5.0, 7.0]}


def test_finish_shows_everything_and_keeps_it_when_asked(record: Record, capsys: pytest.CaptureFixture[str]):
    record.tables.append(Table("Times", ["what", "ms"], [["ours", "1.0"]], "Side by side."))
    record.aims += [Aim("Fast", "2×", True), Aim("Faster", "2×", False, "all")]
    record.finish(save=False)
    shown = capsys.readouterr().out.split("\n")
    for line in ("Times", "Side by side.", "what | ms", "ours | 1.0", "met: Fast: 2×", "NOT met: Faster: 2×"):
        assert line in shown
    assert not (record.path.parent / "results").exists()
    record.finish(save=True)
    assert (record.path.parent / "results" / "example.json").is_file()
