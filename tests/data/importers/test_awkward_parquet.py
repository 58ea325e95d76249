"""Parquet as pandas, Spark and others write it, by the rules of JSON Lines."""

import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.errors import InputError
from tests.data.importers.importing import imported, records, refused

NAN = float("nan")


def written(root: Path, name: str = "items.parquet", **columns: object) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = max(len(column) for column in columns.values())  # type: ignore[arg-type]
    base = {"item_id": [str(n) for n in range(rows)], "title": [f"Lamp {n}" for n in range(rows)]}
    pq.write_table(pa.table({**base, **columns}), path)
    return path


NAMED = pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())]))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"item_id": pa.array([7, 8])}, {"item_id": "7"}),
        ({"item_id": pa.array([7.0, 8.0])}, {"item_id": "7"}),
        ({"item_id": pa.array([Decimal("12345678901234567890"), Decimal(8)])}, {"item_id": "12345678901234567890"}),
        ({"item_id": pa.array([b"x7", b"8"])}, {"item_id": "x7"}),
        ({"title": pa.array(["Sofa", "b"]).dictionary_encode()}, {"title": "Sofa"}),
        ({"title": pa.array(["Sofa", "b"], pa.large_string())}, {"title": "Sofa"}),
        ({"title": pa.array(["Sofa", "b"], pa.string_view())}, {"title": "Sofa"}),
        ({"price": [1.5, NAN]}, {"price": 1.5}),
        ({"price": [NAN, 1.5]}, {}),
        ({"price": pa.array([1.5, None], pa.float16())}, {"price": 1.5}),
        ({"price": pa.array([Decimal("1.50"), None])}, {"price": 1.5}),
        ({"price": ["1,50", "NULL"]}, {"price": 1.5}),
        ({"signal_new": [True, False]}, {"signal_new": 1.0}),
        ({"brand": ["NaN", "x"]}, {}),
        ({"brand": [["Norr"], []]}, {"brand": "Norr"}),
        ({"attributes": [{"colour": "r", "size": None}, None]}, {"attributes": {"colour": "r"}}),
        ({"attributes": pa.array([[("w", 1)], None], pa.map_(pa.string(), pa.int64()))}, {"attributes": {"w": "1"}}),
        ({"attributes": pa.array([[(3, "x")], None], pa.map_(pa.int32(), pa.string()))}, {"attributes": {"3": "x"}}),
        ({"attributes": pa.array([[{"name": "c", "value": "r"}], []], NAMED)}, {"attributes": {"c": "r"}}),
        ({"attributes": [{"fit": {"cap": "E27"}}, None]}, {"attributes": {"fit.cap": "E27"}}),
        ({"attributes": ['{"c": "r"}', None]}, {"attributes": {"c": "r"}}),
        ({"attributes.c": ["r", None]}, {"attributes": {"c": "r"}}),
    ],
)
def test_what_others_write_is_read(tmp_path, columns, expected):
    _, items = imported(tmp_path, "parquet", written(tmp_path, **columns))
    assert items[0] == {"item_id": "0", "title": "Lamp 0"} | expected


def test_other_columns_as_attributes(tmp_path):
    path = written(
        tmp_path,
        made=pa.array([1_600_000_000_123_456_789, None], pa.timestamp("ns")),
        day=[datetime.date(2020, 1, 2), None],
        tags=[["a", "b"], []],
        cost=pa.array([Decimal("1.50"), None]),
        good=[True, False],
        __index_level_0__=[5, 6],
    )
    _, items = imported(tmp_path, "parquet", path, rest_as_attributes=True)
    made = items[0]["attributes"].pop("made")
    assert made.startswith("2020-09-13 12:26:40.123456")
    assert items[0]["attributes"] == {"day": "2020-01-02", "tags": "a, b", "cost": "1.50", "good": "yes"}
    assert items[1]["attributes"] == {"good": "no"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"category": [["a"], ["a", "b"]]}, "row 1, column 'category': ['a', 'b'] is not text (for category); take"),
        ({"title": [{"en": "Sofa"}]}, "row 0, column 'title': {'en': 'Sofa'} is not text (for title); take what is"),
        ({"item_id": [1.0, 2.5]}, "row 1, column 'item_id': 2.5 is no whole number"),
        ({"item_id": [b"\xff"]}, "row 0, column 'item_id': b'\\xff' is not UTF-8 text"),
        ({"price": [1.0, float("inf")]}, "row 1, column 'price': inf is not a finite number"),
        ({"price": [True]}, "row 0, column 'price': True is not a number"),
        ({"signal_x": [1e39]}, "too large for a 32-bit float"),
        ({"item_id": ["a", "b", "a"]}, "row 2, column 'item_id': stands in an earlier row already: 'a'"),
        ({"item_id": ["a", None]}, "row 1, column 'item_id': is null"),
        ({"attributes": [["red"]]}, "row 0, column 'attributes': ['red'] holds no attributes by name"),
        ({"Title": ["x"], "title": None}, "use --map title=COLUMN (it has 'item_id', 'Name')"),
    ],
)  # fmt: skip
def test_the_rest_is_refused_with_row_and_remedy(tmp_path, columns, message):
    if columns.get("title", 1) is None:
        pq.write_table(pa.table({"item_id": ["1"], "Name": ["x"]}), tmp_path / "items.parquet")
    else:
        written(tmp_path, **columns)
    assert message in refused(tmp_path, "parquet", tmp_path / "items.parquet")


def test_text_that_is_not_utf_8(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"good", b"b\xffd"]).buffers())
    message = refused(tmp_path, "parquet", written(tmp_path, title=bad))
    assert "items.parquet: row 1, column 'title': cannot be read as string" in message


def test_a_path_and_a_column_whose_name_has_a_dot(tmp_path):
    path = written(tmp_path, **{"specs": [{"maker": "Norr", "x": 1}], "specs.maker": ["Own"]})
    assert imported(tmp_path, "parquet", path, mapping=("brand=specs.maker",))[1][0]["brand"] == "Own"
    path = written(tmp_path, specs=[{"maker": "Norr", "x": 1}])
    assert imported(tmp_path, "parquet", path, mapping=("brand=specs.maker",))[1][0]["brand"] == "Norr"
    assert "no file has a column 'specs.made'" in refused(tmp_path, "parquet", path, mapping=("brand=specs.made",))


def test_a_folder_as_spark_writes_it(tmp_path):
    folder = tmp_path / "shop" / "items.parquet"
    written(folder, "category=Home%20%26%20Garden/part-00000.snappy.parquet", item_id=["a"])
    written(folder, "category=007/part-00000.snappy.parquet", item_id=["b"])
    written(folder, "category=__HIVE_DEFAULT_PARTITION__/part-00001.snappy.parquet", item_id=["c", "d"])
    written(folder, "category=007/part-00001.snappy.parquet", item_id=pa.array([], pa.string()))
    (folder / "_SUCCESS").touch()
    (folder / "category=007" / ".part-00000.snappy.parquet.crc").write_bytes(b"crc")
    for given in (folder, tmp_path / "shop"):
        _, items = imported(tmp_path, "parquet", given)
        assert {item["item_id"]: item.get("category") for item in items} == {
            "a": "Home & Garden", "b": "007", "c": None, "d": None,
        }  # fmt: skip
    written(folder, "category=x/part-00002.snappy.parquet", item_id=["e", "b"])
    message = refused(tmp_path, "parquet", folder)
    assert "category=x/part-00002.snappy.parquet: row 1, column 'item_id': stands in an earlier row already" in message


def test_a_folder_of_all_tables(tmp_path):
    shop = tmp_path / "shop"
    written(shop, item_id=[1, 2])
    pq.write_table(pa.table({"query_id": [1], "text": ["lamp"], "slices": [["a"]]}), shop / "queries.parquet")
    pq.write_table(pa.table({"query_id": [1], "item_id": [2], "weight": [0]}), shop / "pairs.parquet")
    pq.write_table(pa.table({"query_id": [1], "item_id": [2], "grade": [4.0]}), shop / "judgments.parquet")
    result, _ = imported(tmp_path, "parquet", shop)
    assert [result[name] for name in ("items", "queries", "pairs", "judgments")] == [2, 1, 1, 1]
    assert records(tmp_path / "out", "judgments") == [{"query_id": "1", "item_id": "2", "grade": 4}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.parquet", b"", "cannot be read as Parquet"),
        ("items.parquet", b"item_id,title\n1,Lamp\n", "cannot be read as Parquet"),
        ("shop/part-0.csv", b"item_id,title\n1,Lamp\n", "part-0.csv: cannot be read as Parquet"),
        ("shop/_SUCCESS", b"", "shop: holds no Parquet files"),
    ],
)
def test_what_is_no_parquet(tmp_path, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    given = path if path.parent == tmp_path else path.parent
    assert message in refused(tmp_path, "parquet", given)


def test_a_file_that_is_cut_off_or_broken_inside(tmp_path):
    path = written(tmp_path, title=[f"Lamp {n}" for n in range(1000)])
    whole = path.read_bytes()
    for broken in (whole[:-20], whole[: len(whole) // 2], whole[:100] + bytes(len(whole) - 200) + whole[-100:]):
        path.write_bytes(broken)
        assert "items.parquet" in refused(tmp_path, "parquet", path)


def test_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array(["1"])] * 3, names=["item_id", "title", "title"])
    pq.write_table(table, tmp_path / "items.parquet")
    assert "the column 'title' stands more than once" in refused(tmp_path, "parquet", tmp_path / "items.parquet")


def test_the_source_folder_is_no_target(tmp_path):
    written(tmp_path / "out", item_id=["1"])
    with pytest.raises(InputError, match="is the input folder too"):
        imported(tmp_path, "parquet", tmp_path / "out")
