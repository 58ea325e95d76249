"""`taoemb data …` through the real command line: what it writes, prints and exits with."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.cli.main import main
from taoemb.data.dataset import open_dataset


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["data", *map(str, args)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    out = tmp_path / "shop"
    code, printed, _ = run(capsys, "synth", "--out", out, "--items", 400, "--queries", 60, "--seed", 1, "--json")
    assert code == 0
    assert json.loads(printed)["queries"] == 60
    return out


def test_synth_split_and_validate(shop, tmp_path, capsys):
    code, printed, _ = run(
        capsys, "split", "--data", shop, "--out", tmp_path / "parts", "--set", "split.test=0.5", "--json"
    )
    assert code == 0
    assert json.loads(printed)["test"] == 30
    code, printed, _ = run(capsys, "validate", tmp_path / "parts" / "test", "--json")
    assert code == 0
    assert json.loads(printed)["counts"]["queries"] == 30
    code, printed, _ = run(capsys, "validate", shop)
    assert code == 0
    assert "slice plain" in printed


def test_queries(shop, tmp_path, capsys):
    code, printed, _ = run(
        capsys, "queries", "--data", shop, "--out", tmp_path / "q", "--set", "queries.count=30", "--json"
    )
    assert code == 0
    assert json.loads(printed)["queries"] == 30
    assert len(open_dataset(tmp_path / "q", ("queries", "pairs")).queries) == 30


def test_validate_prints_violations_and_exits_2(tmp_path, capsys):
    pq.write_table(pa.table({"item_id": ["a", "a"], "title": ["x", ""]}), tmp_path / "items.parquet")
    code, printed, _ = run(capsys, "validate", tmp_path, "--json")
    assert code == 2
    report = json.loads(printed)
    assert report["violation_count"] == 2
    assert report["violations"][0] == {"file": "items.parquet", "row": 1, "column": "title", "problem": "is empty"}
    code, printed, _ = run(capsys, "validate", tmp_path)
    assert code == 2
    assert "earlier row" in printed


def test_import_csv(tmp_path, capsys):
    (tmp_path / "items.tsv").write_text("sku\tname\tColour\n1\tSofa\tred\n")
    (tmp_path / "grades.tsv").write_text("query_id\tsku\tgrade\nq\t1\tGood\n")
    (tmp_path / "queries.tsv").write_text("query_id\ttext\nq\tsofa\n")
    args = ["--map", "item_id=sku", "--map", "title=name", "--grade", "Good=4", "--rest-as-attributes"]
    args += ["--queries", tmp_path / "queries.tsv", "--judgments", tmp_path / "grades.tsv", "--delimiter", "\\t"]
    code, _, _ = run(capsys, "import", "csv", tmp_path / "items.tsv", "--out", tmp_path / "out", *args)
    assert code == 0
    data = open_dataset(tmp_path / "out", ("items", "queries", "judgments"))
    assert data.items.records([0])[0]["attributes"] == {"Colour": "red"}
    assert data.judgments.grades.tolist() == [4]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("validate", "nowhere"), "nowhere: no such folder"),
        (("import", "esci", "nowhere", "--out", "out"), "no such file"),
        (("import", "wands", "nowhere", "--out", "out"), "no such file"),
        (("import", "jsonl", "nowhere", "--out", "out"), "no such file"),
        (("import", "csv", "x", "--out", "out", "--delimiter", "::"), "must be one character"),
        (("split", "--data", "nowhere", "--out", "out"), "the file is missing"),
        (("queries", "--data", "nowhere", "--out", "out"), "the file is missing"),
        (("split", "--data", "nowhere", "--out", "out", "--set", "split.by=brand"), "split.by"),
        (("synth", "--out", "out", "--items", "0"), "--items"),
        (("synth",), "--out"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, *args)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
