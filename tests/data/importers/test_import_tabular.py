"""CSV and JSON Lines with a mapping."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taoemb.data.dataset import open_dataset
from taoemb.data.importers.tabular import TableImport, import_csv, import_jsonl
from taoemb.errors import InputError

TABLES = ("items", "queries", "pairs", "judgments")
ITEMS = "sku,name,maker,cost,Colour,stock,signal_sales\nA1,Red sofa,Norrvik,199.50,Red,3,12\nA2, Lamp ,,,,,\n"
QUERIES = "qid,text,slices\n1,red sofa,plain|furniture\n2,lamp,\n"
PAIRS = "qid,clicked,weight\n1,A1,3\n"
JUDGMENTS = "qid,sku,grade,source\n1,A1,Exact,human\n1,A2,1,\n"
MAPPING = (
    "item_id=sku",
    "title=name",
    "brand=maker",
    "price=cost",
    "query_id=qid",
    "attributes.colour=Colour",
    "signal_stock=stock",
    "pairs.item_id=clicked",
)


def files(root: Path, **contents: str) -> TableImport:
    made = {"items": ITEMS, "queries": QUERIES, "pairs": PAIRS, "judgments": JUDGMENTS, **contents}
    for name, content in made.items():
        (root / f"{name}.csv").write_text(content, encoding="utf-8")
    return TableImport(**{name: root / f"{name}.csv" for name in TABLES}, mapping=MAPPING, grades=("Exact=4", "1=1"))


def test_csv_with_a_mapping(tmp_path):
    result = import_csv(files(tmp_path), tmp_path / "out")
    assert {name: result[name] for name in TABLES} == {"items": 2, "queries": 2, "pairs": 1, "judgments": 2}
    data = open_dataset(tmp_path / "out", TABLES)
    sofa, lamp = data.items.records([0, 1])
    assert sofa["attributes"] == {"colour": "Red"}
    assert (sofa["brand"], sofa["price"], sofa["signal_stock"], sofa["signal_sales"]) == ("Norrvik", 199.5, 3.0, 12.0)
    assert (lamp["title"], lamp["price"], lamp["brand"], lamp["attributes"]) == ("Lamp", None, None, {})
    assert data.queries.slices == [("plain", "furniture"), ()]
    assert data.judgments.grades.tolist() == [4, 1]
    assert data.pairs.weights.tolist() == [3.0]


def test_items_alone_with_all_columns_as_attributes(tmp_path):
    source = files(tmp_path)
    alone = TableImport(source.items, mapping=("item_id=sku", "title=name"), rest_as_attributes=True)
    import_csv(alone, tmp_path / "out")
    sofa, lamp = open_dataset(tmp_path / "out").items.records([0, 1])
    assert sofa["attributes"] == {"maker": "Norrvik", "cost": "199.50", "Colour": "Red", "stock": "3"}
    assert lamp["attributes"] == {}


def test_jsonl_keeps_nested_attributes(tmp_path):
    rows = [
        {"item_id": 1, "title": "Sofa", "attributes": {"seats": 3, "arms": False, "tags": ["a", "b"], "none": None}},
        {"item_id": "2", "title": "Lamp", "price": 5, "signal_rating": 4.5},
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "queries.jsonl").write_text('{"query_id": "q", "text": "sofa", "slices": ["x", "y"]}\n')
    import_jsonl(TableImport(tmp_path / "items.jsonl", queries=tmp_path / "queries.jsonl"), tmp_path / "out")
    data = open_dataset(tmp_path / "out", ("items", "queries"))
    sofa, lamp = data.items.records([0, 1])
    assert sofa["attributes"] == {"seats": "3", "arms": "no", "tags": "a, b"}
    assert (sofa["item_id"], lamp["price"], lamp["signal_rating"]) == ("1", 5.0, 4.5)
    assert data.queries.slices == [("x", "y")]


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(titles=st.lists(cells.filter(str.strip), min_size=1, max_size=5), extra=cells)
def test_csv_and_jsonl_read_the_same(tmp_path, titles, extra):
    import csv

    rows = [{"item_id": f"i{n}", "title": title, "brand": extra} for n, title in enumerate(titles)]
    with (tmp_path / "i.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["item_id", "title", "brand"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "i.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    import_csv(TableImport(tmp_path / "i.csv"), tmp_path / "a")
    import_jsonl(TableImport(tmp_path / "i.jsonl"), tmp_path / "b")
    one, other = (open_dataset(tmp_path / name).items for name in "ab")
    assert one.records(range(len(one))) == other.records(range(len(other)))
    assert one.column("title").to_pylist() == [title.strip() for title in titles]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"items": ITEMS.replace("199.50", "cheap")}, r"line 2, column 'cost': 'cheap' is not a number \(for price\)"),
        ({"items": ITEMS.replace("name,", "label,")}, r"has no column 'name' for title; use --map title=COLUMN"),
        ({"items": ITEMS.replace("maker", "producer")}, "no file has a column 'maker'"),
        ({"items": ITEMS + "A3,too,few\n"}, "line 4: has more or fewer cells"),
        (
            {"items": ITEMS.replace("A2", "A1")},
            r"line 3, column 'sku': stands in an earlier row already: 'A1' \(for",
        ),
        ({"items": ITEMS.replace("199.50", "1e999")}, "is not a finite number"),
        (
            {"judgments": JUDGMENTS.replace("Exact", "Great")},
            r"line 2, column 'grade': 'Great' is none of the labels",
        ),
        ({"judgments": JUDGMENTS.replace("Exact", "7")}, "'7' is none of the labels of --grade"),
        ({"pairs": PAIRS.replace("A1", "A9")}, "line 2, column 'clicked': names no row of items.parquet: 'A9'"),
        ({"pairs": PAIRS.replace(",3", ",-3")}, "is negative"),
        ({"queries": "qid,text,slices\n"}, "holds no rows"),
    ],
)
def test_bad_input(tmp_path, contents, message):
    source = files(tmp_path, **contents)
    with pytest.raises(InputError, match=message):
        import_csv(source, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".csv"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mapping": ("title",)}, "--map 'title': expected FIELD=COLUMN"),
        ({"mapping": ("titel=name",)}, "--map 'titel=name'"),
        ({"grades": ("Exact=5",)}, "--grade 'Exact=5'"),
        ({"queries": Path("nowhere.csv")}, "nowhere.csv: no such file"),
    ],
)
def test_bad_usage(tmp_path, changes, message):
    source = TableImport(**{**vars(files(tmp_path)), **changes})
    with pytest.raises(InputError, match=message):
        import_csv(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "line 2 is not JSON"), ("[1]", "line 2 is not a JSON object"), ("\udcff", "line 2: is not UTF-8")],
)
def test_bad_json(tmp_path, line, message):
    text = '{"item_id": "1", "title": "Sofa"}\n' + line + "\n"
    (tmp_path / "i.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        import_jsonl(TableImport(tmp_path / "i.jsonl"), tmp_path / "out")


def test_a_nested_title_is_refused(tmp_path):
    (tmp_path / "i.jsonl").write_text('{"item_id": "1", "title": {"en": "Sofa"}}\n')
    with pytest.raises(InputError, match=r"column 'title': \{'en': 'Sofa'\} is not text"):
        import_jsonl(TableImport(tmp_path / "i.jsonl"), tmp_path / "out")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "i.csv").write_bytes(b"item_id,title\n1,\xff\xfe\n")
    with pytest.raises(InputError, match=r"line 2: is not UTF-8 \(byte 0xff\)"):
        import_csv(TableImport(tmp_path / "i.csv"), tmp_path / "out")
