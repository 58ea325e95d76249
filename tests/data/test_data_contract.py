"""The dataset contract: what readers accept, what they refuse, and what they hand out."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.data.dataset import Catalogue, open_catalogue, open_dataset
from taoemb.data.schemas import ITEMS, compatible, conform
from taoemb.data.validate import SHOWN, validate
from taoemb.encoder.text import ItemTemplate
from taoemb.errors import InputError

ITEMS_COLUMNS = {
    "item_id": ["a", "b", "c"],
    "title": ["Sofa", "Lamp", "Desk"],
    "price": [10.0, None, 3.5],
    "attributes": pa.array([[("colour", "red")], None, []], ITEMS.field("attributes").type),
    "signal_rating": [4.5, None, 3.0],
    "released": ["2020", "2021", "2022"],
}
QUERIES_COLUMNS = {"query_id": ["q1", "q2"], "text": ["red sofa", "lamp"], "slices": [["plain"], None]}
PAIRS_COLUMNS = {"query_id": ["q1", "q2"], "item_id": ["a", "b"], "weight": [1.0, 2.0]}
JUDGMENTS_COLUMNS = {
    "query_id": ["q1", "q1", "q2"],
    "item_id": ["a", "c", "b"],
    "grade": [4, 2, 3],
    "source": ["human", "human", None],
}
GOOD = {"items": ITEMS_COLUMNS, "queries": QUERIES_COLUMNS, "pairs": PAIRS_COLUMNS, "judgments": JUDGMENTS_COLUMNS}
ALL = tuple(GOOD)


def write(root: Path, row_group_size: int | None = None, **changes: dict) -> Path:
    """A dataset folder; `items={"price": [...]}` replaces columns, a value of None drops one."""
    root.mkdir(exist_ok=True)
    for name, columns in GOOD.items():
        merged = {**columns, **changes.get(name, {})}
        table = pa.table({key: value for key, value in merged.items() if value is not None})
        pq.write_table(table, root / f"{name}.parquet", row_group_size=row_group_size)
    return root


def test_open_reads_rows_and_defaults(tmp_path):
    data = open_dataset(write(tmp_path / "d"), ALL)
    assert (len(data.items), len(data.queries), len(data.pairs), len(data.judgments)) == (3, 2, 2, 3)
    assert data.queries.slices == [("plain",), ()]
    assert data.pairs.weights.dtype == np.float32
    assert data.judgments.item_rows.tolist() == [0, 2, 1]
    assert data.judgments.grades.dtype == np.int8
    assert data.judgments.sources == ["human", "human", ""]
    assert data.items.signals == ("signal_rating",)
    first = data.items.records(np.array([0]))[0]
    assert first["attributes"] == {"colour": "red"}
    assert first["released"] == "2020"
    assert first["brand"] is None


def test_optional_columns_may_be_absent(tmp_path):
    root = write(tmp_path / "d", queries={"slices": None}, pairs={"weight": None}, judgments={"source": None})
    data = open_dataset(root, ALL)
    assert data.pairs.weights.tolist() == [1.0, 1.0]
    assert data.queries.slices == [(), ()]
    assert validate(root).ok


def test_tables_not_there_are_none(tmp_path):
    root = write(tmp_path / "d")
    for name in ("queries", "pairs", "judgments"):
        (root / f"{name}.parquet").unlink()
    data = open_dataset(root)
    assert data.pairs is None
    assert data.judgments is None
    assert len(data.queries) == 0


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("items", {"item_id": pa.array(["a", "b", "c"], pa.large_string())}),
        ("items", {"title": pa.array(["Sofa", "Sofa", "Desk"]).dictionary_encode()}),
        ("items", {"price": pa.array([1, 2, 3], pa.int32())}),
        ("items", {"brand": pa.nulls(3)}),
        ("items", {"signal_rating": pa.array([1, 2, 3], pa.uint8())}),
        ("items", {"attributes": [[{"key": "colour", "value": "red"}], [], None]}),
        ("judgments", {"grade": pa.array([4, 2, 3], pa.int64())}),
        ("queries", {"slices": pa.array([["x"], []], pa.large_list(pa.large_string()))}),
    ],
)
def test_compatible_types_are_accepted(tmp_path, table, columns):
    root = write(tmp_path / "d", **{table: columns})
    assert validate(root).violations == []
    assert len(open_dataset(root, ALL).items) == 3


BROKEN = [
    ("items", {"title": None}, None, "title", "missing"),
    ("items", {"item_id": [1, 2, 3]}, None, "item_id", "has type int64"),
    ("items", {"price": ["1", "2", "3"]}, None, "price", "has type string"),
    ("items", {"attributes": ["x", "y", "z"]}, None, "attributes", "expected map"),
    ("items", {"item_id": ["a", None, "c"]}, 1, "item_id", "is null"),
    ("items", {"item_id": ["a", "b", "b"]}, 2, "item_id", "earlier row"),
    ("items", {"title": ["Sofa", "  ", "Desk"]}, 1, "title", "is empty"),
    ("items", {"price": [1.0, float("nan"), 2.0]}, 1, "price", "finite"),
    ("items", {"signal_rating": [1.0, 2.0, float("inf")]}, 2, "signal_rating", "finite"),
    ("items", {"title": pa.array([b"Sofa", b"\xff\xfe", b"Desk"]).view(pa.string())}, 1, "title", "UTF-8"),
    ("queries", {"text": ["red sofa", None]}, 1, "text", "is null"),
    ("queries", {"query_id": ["q1", "q1"]}, 1, "query_id", "earlier row"),
    ("queries", {"slices": ["a", "b"]}, None, "slices", "has type string"),
    ("pairs", {"item_id": ["a", "zz"]}, 1, "item_id", "names no row of items.parquet: 'zz'"),
    ("pairs", {"weight": [1.0, -1.0]}, 1, "weight", "negative"),
    ("pairs", {"weight": [float("nan"), 1.0]}, 0, "weight", "finite"),
    ("judgments", {"query_id": ["q1", "q1", "q9"]}, 2, "query_id", "names no row of queries.parquet: 'q9'"),
    ("judgments", {"grade": [4, 0, 3]}, 1, "grade", "1, 2, 3, 4: 0"),
    ("judgments", {"grade": pa.array([4, 300, 3], pa.int64())}, 1, "grade", "300"),
    ("judgments", {"grade": [4, None, 3]}, 1, "grade", "is null"),
    ("judgments", {"grade": [4.0, 2.0, 3.0]}, None, "grade", "has type double"),
]


@pytest.mark.parametrize(("table", "columns", "row", "column", "problem"), BROKEN)
def test_every_violation_names_file_row_and_column(tmp_path, table, columns, row, column, problem):
    root = write(tmp_path / "d", **{table: columns})
    with pytest.raises(InputError) as refused:
        open_dataset(root, ALL)
    where = f"{table}.parquet, " + (f"row {row}, " if row is not None else "") + f"column '{column}'"
    assert where in str(refused.value)
    assert problem in str(refused.value)
    found = [v for v in validate(root).violations if v.file == f"{table}.parquet" and problem in v.problem]
    assert [(v.row, v.column) for v in found] == [(row, column)]


def test_rows_count_over_row_groups(tmp_path):
    root = write(tmp_path / "d", row_group_size=1, items={"title": ["Sofa", "Lamp", ""]})
    with pytest.raises(InputError, match="row 2, column 'title'"):
        open_dataset(root)


def test_validate_lists_all_kinds_and_counts_beyond_the_cap(tmp_path):
    n = 3 * SHOWN
    many = {name: [1.0] * n for name in ("price", "signal_rating")} | {"released": None, "attributes": None}
    root = write(tmp_path / "d", items={"item_id": [f"i{i}" for i in range(n)], "title": [""] * n, **many})
    report = validate(root)
    empty = [v for v in report.violations if v.problem == "is empty"]
    dangling = [v for v in report.violations if "names no row" in v.problem]
    assert len(empty) == SHOWN
    assert len(dangling) == 5  # two pairs and three judgments
    assert report.violation_count == n + 5


@pytest.mark.parametrize("content", [b"", b"not parquet at all", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_file_that_is_no_parquet(tmp_path, content):
    root = write(tmp_path / "d")
    (root / "queries.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"queries\.parquet: cannot be read as Parquet"):
        open_dataset(root, ALL)
    assert any("cannot be read" in v.problem for v in validate(root).violations)


def test_a_truncated_page_is_no_traceback(tmp_path):
    root = write(tmp_path / "d")
    raw = bytearray((root / "items.parquet").read_bytes())
    raw[8:120] = b"\xff" * 112
    (root / "items.parquet").write_bytes(bytes(raw))
    with pytest.raises(InputError, match=r"items\.parquet"):
        open_dataset(root)


@pytest.mark.parametrize("missing", ["items", "queries"])
def test_a_needed_file_that_is_missing(tmp_path, missing):
    root = write(tmp_path / "d")
    (root / f"{missing}.parquet").unlink()
    with pytest.raises(InputError, match=rf"{missing}\.parquet: the file is missing"):
        open_dataset(root, ALL)
    assert any(v.file == f"{missing}.parquet" and "missing" in v.problem for v in validate(root).violations)


def test_a_catalogue_without_items_and_a_folder_that_is_none(tmp_path):
    root = write(tmp_path / "d")
    pq.write_table(ITEMS.empty_table(), root / "items.parquet")
    with pytest.raises(InputError, match="holds no items"):
        open_catalogue(root)
    with pytest.raises(InputError, match="no such folder"):
        validate(tmp_path / "nowhere")
    with pytest.raises(InputError, match="unknown table 'clicks'"):
        open_dataset(root, ("clicks",))


def test_validate_reports_what_is_there(tmp_path):
    report = validate(write(tmp_path / "d"))
    assert report.ok
    assert report.counts == {"items": 3, "queries": 2, "pairs": 2, "judgments": 3}
    assert report.labels == {4: 1, 3: 1, 2: 1, 1: 0}
    assert report.slices == {"plain": 1}
    assert report.coverage["items with price"] == pytest.approx(2 / 3)
    assert report.coverage["items with attributes"] == pytest.approx(1 / 3)
    assert report.coverage["queries with judgments"] == 1.0
    assert report.as_dict()["labels"]["Excellent"] == 1


def test_the_cache_is_mapped_reused_and_follows_the_file(tmp_path):
    root = write(tmp_path / "d", row_group_size=2)
    cache = tmp_path / "cache"
    plain, mapped = open_catalogue(root), open_catalogue(root, cache)
    rows = np.array([2, 0, 1])
    assert mapped.records(rows) == plain.records(rows)
    assert len(list(cache.iterdir())) == 1
    open_catalogue(root, cache)
    assert len(list(cache.iterdir())) == 1
    write(tmp_path / "d", items={"title": ["Another", "Lamp", "Desk"]})
    assert open_catalogue(root, cache).records(np.array([0]))[0]["title"] == "Another"
    write(tmp_path / "d", items={"item_id": ["a", "a", "c"]})
    before = set(cache.iterdir())
    with pytest.raises(InputError, match="earlier row"):
        open_catalogue(root, cache)
    assert set(cache.iterdir()) == before


def test_catalogue_columns_and_texts(tmp_path):
    items = open_catalogue(write(tmp_path / "d"))
    assert items.texts(np.array([2, 0]), ItemTemplate("{title}[ ({attributes})]")) == ["Desk", "Sofa (colour: red)"]
    assert items.column("brand").null_count == 3
    with pytest.raises(InputError, match="no column 'signal_sales'"):
        items.column("signal_sales")
    with pytest.raises(IndexError):
        items.records(np.array([3]))
    assert [batch.tolist() for batch in items.batches(2)] == [[0, 1], [2]]


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.text(min_size=1, max_size=4), unique=True, min_size=1, max_size=30),
    cuts=st.integers(1, 7),
    seed=st.integers(0, 9),
)
def test_rows_and_ids_invert_each_other_over_any_chunks(ids, cuts, seed):
    parts = [ids[start : start + cuts] for start in range(0, len(ids), cuts)]
    table = pa.concat_tables([pa.table({"item_id": part, "title": part}) for part in parts])
    items = Catalogue(table)
    rows = np.random.default_rng(seed).integers(len(ids), size=2 * len(ids))
    assert items.ids_of(rows) == [ids[row] for row in rows]
    assert items.rows_of(items.ids_of(rows)).tolist() == rows.tolist()
    assert items.rows_of(["certainly not an id", ids[0]]).tolist() == [-1, 0]
    assert items.rows_of([]).tolist() == []


@given(
    st.lists(st.none() | st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3), max_size=3), max_size=8),
    st.integers(0, 3),
)
def test_maps_survive_every_spelling(maps, start):
    want = ITEMS.field("attributes").type
    pairs = [None if entry is None else list(entry.items()) for entry in maps]
    structs = [None if entry is None else [{"key": k, "value": v} for k, v in entry] for entry in pairs]
    spelled = [
        pa.array(pairs, pa.map_(pa.large_string(), pa.large_string())),
        pa.array(structs, pa.list_(pa.struct([("key", pa.string()), ("value", pa.large_string())]))),
        pa.array(structs, pa.large_list(pa.struct([("key", pa.string()), ("value", pa.string())]))),
    ]
    for column in spelled:
        assert compatible(column.type, want)
        assert conform(column.slice(start), want).to_pylist() == pairs[start:]
