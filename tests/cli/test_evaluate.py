import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.cli.main import main

SETTINGS = ["--set", "evaluation.bootstrap=100", "--set", "gate.min_queries=1", "--set", "gate.metric=mrr@10"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six items, three queries; BM25 finds what is asked for."""
    folder = tmp_path_factory.mktemp("data")
    titles = ["red sofa", "blue sofa", "red lamp", "blue lamp", "green kettle", "black kettle"]
    pq.write_table(pa.table({"item_id": list("abcdef"), "title": titles}), folder / "items.parquet")
    slices = pa.array([["plain"], ["plain"], []], pa.list_(pa.string()))
    texts = ["sofa red", "lamp blue", "kettle green"]
    pq.write_table(pa.table({"query_id": list("xyz"), "text": texts, "slices": slices}), folder / "queries.parquet")
    judged = {"query_id": list("xxyyzz"), "item_id": list("abdcef"), "grade": pa.array([4, 3] * 3, pa.int8())}
    pq.write_table(pa.table(judged), folder / "judgments.parquet")
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *map(str, arguments), *SETTINGS])
    return stopped.value.code


def test_prints_one_json_object_and_writes_the_files(data, tmp_path, capsys):
    assert run("--systems", "words=bm25", "--data", data, "--out", tmp_path / "out", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["subject"] == "words"
    assert printed["metrics"]["words"]["mrr@10"]["all"]["value"] == 1
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["mrr@10"]["plain"]["queries"] == 2
    assert (tmp_path / "out" / "report.html").is_file()


def test_prints_a_table_for_people(data, tmp_path, capsys):
    assert run("--systems", "a=bm25", "--systems", "b=bm25", "--baseline", "a", "--data", data, "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "hitrate@10" in printed
    assert "b − a" in printed


@pytest.mark.parametrize(("settings", "code"), [([], 0), (["--set", "gate.require_gain=true"], 1)])
def test_the_gate_decides_the_exit_code_and_the_report_is_written(data, tmp_path, capsys, settings, code):
    systems = ["--systems", "old=bm25", "--systems", "new=bm25", "--baseline", "old"]
    assert run(*systems, "--data", data, "--out", tmp_path, "--gate", "--json", *settings) == code
    captured = capsys.readouterr()
    assert json.loads(captured.out)["gate"]["passed"] is (code == 0)
    assert (tmp_path / "report.html").is_file()
    if code:
        assert captured.err.splitlines()[-1] == (
            "taoemb: the gate refuses new: mrr@10: 0.0000 [0.0000, 0.0000] against the baseline on 3 queries; "
            "fails: the interval must lie above 0"
        )


def test_a_release_of_a_model_folder_is_compared_with_bm25(data, tmp_path, capsys):
    arguments = ["--release", "all-MiniLM-L6-v2", "--baseline", "bm25", "--data", data, "--out", tmp_path, "--json"]
    assert run(*arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["subject"], printed["baseline"]) == ("release", "baseline")
    assert printed["metrics"]["release"]["mrr@10"]["all"]["value"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to evaluate; give --release DIR"),
        (["--release", "/nowhere/release"], "release: no release and no model"),
        (["--systems", "bm25"], "expected NAME=PATH"),
        (["--systems", "a=bm25", "--systems", "a=bm25"], "the name 'a' is taken"),
        (["--systems", "release=bm25"], "the name 'release' is taken"),
        (["--systems", "a=bm25", "--gate"], "give --baseline"),
        (["--systems", "a=bm25", "--baseline", "a"], "compared with itself"),
        (["--systems", "a=bm25", "--judge", "/nowhere", "--judge-url", "http://127.0.0.1:9"], "not both"),
        (["--systems", "a=bm25", "--judge", "/nowhere"], "--judge /nowhere: no such folder"),
        (
            ["--systems", "a=bm25", "--systems", "b=bm25", "--baseline", "a", "--gate", "--set", "gate.metric=mrr@7"],
            "gate.metric 'mrr@7' is not computed; choose one of hitrate@10",
        ),
        (["--systems", "a=bm25", "--set", "evaluation.hitrate=[0]"], "evaluation.hitrate"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(data, tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--data", str(data), "--out", str(tmp_path / "out"), *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_bad_data_and_bad_out_are_exit_2(data, tmp_path, capsys):
    assert run("--systems", "a=bm25", "--data", tmp_path / "none", "--out", tmp_path / "out") == 2
    assert "items.parquet" in capsys.readouterr().err
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("items", "queries"):
        (bare / f"{name}.parquet").hardlink_to(data / f"{name}.parquet")
    assert run("--systems", "a=bm25", "--data", bare, "--out", tmp_path / "out") == 2
    assert "judgments.parquet" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run("--systems", "a=bm25", "--data", data, "--out", tmp_path / "file") == 2
    assert "is a file" in capsys.readouterr().err


def test_the_command_imports_nothing_heavy_until_it_runs():
    names = ("torch", "numpy", "pyarrow", "jinja2")
    code = f"import sys, taoemb.cli.evaluate; print([m for m in {names} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
