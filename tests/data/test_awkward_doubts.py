"""What keeps the contract and can hardly be meant is counted and said, and stops nothing."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from taoemb.cli.data import app
from taoemb.data.doubts import SHOWN
from taoemb.data.importers.tabular import TableImport, import_csv
from taoemb.data.schemas import ITEMS
from taoemb.data.validate import validate


def write(root: Path, **tables: dict) -> Path:
    root.mkdir()
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), root / f"{name}.parquet")
    return root


CLEAN = {
    "items": {"item_id": ["a", "b"], "title": ["oak sofa < 2 m", "R&D lamp"], "brand": ["Nan", None]},
    "queries": {"query_id": ["p", "q"], "text": ["sofa", "lamp"]},
    "pairs": {"query_id": ["p"], "item_id": ["a"], "weight": [2.0]},
    "judgments": {"query_id": ["q", "q"], "item_id": ["b", "b"], "grade": [4, 4]},
}


def warnings(root: Path) -> dict[tuple[str, str], tuple[int, str]]:
    """(file, problem) → count and first example."""
    report = validate(root)
    assert report.ok
    found = json.loads(json.dumps(report.as_dict()))["warnings"]
    return {(one["file"], one["problem"]): (one["count"], one["examples"][0]) for one in found}


def test_a_sound_dataset_gives_no_warning(tmp_path):
    assert warnings(write(tmp_path / "d", **CLEAN)) == {}


def test_everything_doubtful_is_counted(tmp_path):
    attributes = pa.array([[("size", "2 &amp; 3")], []], ITEMS.field("attributes").type)
    items = {
        "item_id": ["a", "b"],
        "title": ["Oak &amp; lamp", "None"],
        "brand": ["NULL", None],
        "attributes": attributes,
    }
    items["category"] = ["&nbsp;", None]
    queries = {"query_id": ["p", "q", "r"], "text": ["sofa", "lamp", " sofa"]}
    pairs = {"query_id": ["p"], "item_id": ["a"], "weight": [0.0]}
    judgments = {"query_id": ["q", "q", "p"], "item_id": ["b", "b", "a"], "grade": [4, 1, 2]}
    found = warnings(write(tmp_path / "d", items=items, queries=queries, pairs=pairs, judgments=judgments))
    assert found == {
        ("items.parquet", "holds HTML"): (1, "'2 &amp; 3'"),
        ("items.parquet", "holds HTML and no text"): (1, "row 0 '&nbsp;'"),
        ("items.parquet", "is a word for missing"): (1, "row 0 'NULL'"),
        ("queries.parquet", "stands under several ids"): (1, "'sofa': 'p', 'r'"),
        ("queries.parquet", "has no pair and no judgment"): (1, "'r'"),
        ("pairs.parquet", "is 0: a known answer, never drawn as a positive"): (1, "query 'p', item 'a'"),
        ("judgments.parquet", "one pair has several different grades (the low median counts)"): (
            1,
            "query 'q', item 'b': 4, 1",
        ),
    }
    shown = [str(warning) for warning in validate(tmp_path / "d").warnings]
    assert "items.parquet, column 'title': is a word for missing: 1, e.g. row 1 'None'" in shown


def test_many_are_counted_and_few_are_shown(tmp_path):
    items = {"item_id": [f"i{n}" for n in range(99)], "title": ["a &lt; b"] * 99}
    (warning,) = validate(write(tmp_path / "d", items=items)).warnings
    assert (warning.count, len(warning.examples)) == (99, SHOWN)


def test_answers_known_to_a_generated_query_are_meant(tmp_path):
    tables = {**CLEAN, "queries": {**CLEAN["queries"], "spec": ["{}", "{}"]}}
    tables["pairs"] = {"query_id": ["p"], "item_id": ["a"], "weight": [0.0]}
    assert warnings(write(tmp_path / "d", **tables)) == {}


def test_an_empty_table_of_queries_makes_what_names_them_dangling(tmp_path):
    empty = {"query_id": pa.array([], pa.string()), "text": pa.array([], pa.string())}
    report = validate(write(tmp_path / "d", **{**CLEAN, "queries": empty}))
    assert [violation.problem for violation in report.violations][:1] == ["names no row of queries.parquet: 'p'"]


def test_the_command_says_it_and_passes(tmp_path):
    items = {"item_id": ["a"], "title": ["Oak &amp; lamp"]}
    result = CliRunner().invoke(app, ["validate", str(write(tmp_path / "d", items=items))])
    assert result.exit_code == 0
    assert "warnings" in result.output
    assert "holds HTML" in result.output


def test_imports_clean_texts_and_say_what_is_doubtful(tmp_path):
    (tmp_path / "i.csv").write_text(
        'item_id,title,brand,description\na,<b>Oak &amp; lamp</b>,&nbsp;,"<p>a < b</p>"\nb,R&D,x,\n'
    )
    (tmp_path / "q.csv").write_text("query_id,text\nq,&amp;\n")
    (tmp_path / "j.csv").write_text("query_id,item_id,grade\nq,a,4\nq,a,1\n")
    source = TableImport(tmp_path / "i.csv", queries=tmp_path / "q.csv", judgments=tmp_path / "j.csv")
    result = import_csv(source, tmp_path / "out")
    first, second = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    assert (first["title"], first["brand"], first["description"]) == ("Oak & lamp", None, "a < b")
    assert second["title"] == "R&D"
    assert pq.read_table(tmp_path / "out" / "queries.parquet")["text"].to_pylist() == ["&amp;"], "as it was typed"
    assert any("HTML taken out of 1 texts" in note for note in result["notes"])
    assert any("several different grades" in note for note in result["notes"])
    raw = import_csv(TableImport(tmp_path / "i.csv", raw_text=True), tmp_path / "raw")
    assert pq.read_table(tmp_path / "raw" / "items.parquet")["title"].to_pylist()[0] == "<b>Oak &amp; lamp</b>"
    assert any("holds HTML" in note for note in raw["notes"])
