"""ESCI and WANDS as they are met: samples, other tools' copies, other spellings; and whatever else a file may hold."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from taoemb.data.dataset import open_dataset
from taoemb.data.importers.esci import EXAMPLES, PRODUCTS, import_esci
from taoemb.data.importers.wands import import_wands
from taoemb.data.validate import validate
from taoemb.errors import InputError

TABLES = ("items", "queries", "pairs", "judgments")
QUERY = "query_id\tquery\tquery_class\n0\tarm chair\tChairs\n1\tlamp\t\n"
PRODUCT = (
    "product_id\tproduct_name\tproduct_class\tproduct_description\tproduct_features\trating_count\taverage_rating"
    "\treview_count\n0\toak chair\tChairs\tgood\tcolour:red|size : 2 &amp; 3\t5\t4.5\t3\n1\tlamp\tNaN\tnan\t\t\tnan\t\n"
)
LABEL = "id\tquery_id\tproduct_id\tlabel\n0\t0\t0\tExact\n1\t0\t1\tIrrelevant\n2\t1\t1\tPartial\n"
PUBLISHED = {"query": QUERY, "product": PRODUCT, "label": LABEL}


def write_wands(root: Path, encoding: str = "utf-8", **changes: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, content in {**PUBLISHED, **changes}.items():
        (root / f"{name}.csv").write_bytes(content.encode(encoding))
    return root


def write_esci(root: Path, products: dict, examples: dict) -> Path:
    root.mkdir(exist_ok=True)
    n, m = len(products["product_id"]), len(examples["product_id"])
    names = ("title", "description", "bullet_point", "brand", "color")
    products = {**{f"product_{name}": ["x"] * n for name in names}, "product_locale": ["us"] * n, **products}
    given = {"query_id": [1] * m, "query": ["sofa"] * m, "product_locale": ["us"] * m, "esci_label": ["E"] * m}
    given |= {"split": ["train"] * m, "small_version": [1] * m, "large_version": [1] * m}
    pq.write_table(pa.table(products), root / PRODUCTS)
    pq.write_table(pa.table({**given, **examples}), root / EXAMPLES)
    return root


def test_a_sample_of_the_products_leaves_examples_out_and_counts_them(tmp_path):
    products = {"product_id": ["a", "b"], "product_title": ["Sofa", "&nbsp;"]}
    root = write_esci(tmp_path / "in", products, {"product_id": ["a", "b", "z", "y"]})
    result = import_esci(root, tmp_path / "out")
    assert (result["items"], result["judgments"], result["pairs"]) == (1, 1, 1)
    assert (result["items_without_title"], result["judgments_of_unknown_products"]) == (1, 2)
    assert validate(tmp_path / "out").ok


@pytest.mark.parametrize("locale", ["US", " us", "Us"])
def test_case_of_locales_and_labels_does_not_count(tmp_path, locale):
    examples = {"product_id": ["a", "a", "b", "b"], "esci_label": ["Exact", "s", "COMPLEMENT", "irrelevant"]}
    root = write_esci(tmp_path / "in", {"product_id": ["a", "b"]}, examples)
    import_esci(root, tmp_path / "out", locale=locale)
    judged = open_dataset(tmp_path / "out", TABLES, every_judgment=True).judgments
    assert judged.grades.tolist() == [4, 3, 2, 1]


def test_types_that_pandas_makes(tmp_path):
    """Ids as whole floats, NaN for missing text, flags as booleans, other column orders and further columns."""
    products = {"extra": [1, 2], "product_id": [7.0, 12.0], "product_description": [math.nan, math.nan]}
    examples = {"large_version": [True, False, True], "product_id": [7.0, 7.0, 12.0], "query_id": np.arange(3.0)}
    import_esci(write_esci(tmp_path / "in", products, examples), tmp_path / "out")
    data = open_dataset(tmp_path / "out", TABLES)
    assert data.items.ids.to_pylist() == ["7", "12"]
    assert data.queries.ids == ["0", "2"]
    assert [record["description"] for record in data.items.records([0, 1])] == ["x", "x"], "the bullet point alone"


def test_esci_texts_without_markup(tmp_path):
    products = {"product_id": ["a"], "product_title": ["Oak &amp; <b>lamp</b>"], "product_color": ["&nbsp;"]}
    root = write_esci(tmp_path / "in", products, {"product_id": ["a"]})
    import_esci(root, tmp_path / "out")
    item = open_dataset(tmp_path / "out").items.records([0])[0]
    assert (item["title"], item["attributes"]) == ("Oak & lamp", {})
    import_esci(root, tmp_path / "raw", raw_text=True)
    assert open_dataset(tmp_path / "raw").items.records([0])[0]["title"] == "Oak &amp; <b>lamp</b>"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", ["\t", ",", ";"])
def test_copies_of_wands(tmp_path, encoding, mark):
    copied = {}
    for name, content in PUBLISHED.items():
        file = io.StringIO()
        csv.writer(file, delimiter=mark).writerows(csv.reader(content.splitlines(), delimiter="\t"))
        copied[name] = file.getvalue().replace("Exact", "exact")
    result = import_wands(write_wands(tmp_path / "in", encoding, **copied), tmp_path / "out")
    assert {name: result[name] for name in TABLES} == {"items": 2, "queries": 2, "pairs": 1, "judgments": 3}
    data = open_dataset(tmp_path / "out", TABLES)
    chair, lamp = data.items.records([0, 1])
    assert chair["attributes"] == {"colour": "red", "size": "2 & 3"}
    assert (lamp["category"], lamp["description"], lamp["signal_average_rating"]) == (None, None, None)
    assert data.judgments.grades.tolist() == [4, 1, 3]


def test_two_labels_of_one_pair_are_said(tmp_path):
    label = LABEL + "3\t0\t0\tPartial\n4\t0\t0\tPartial\n"
    result = import_wands(write_wands(tmp_path / "in", label=label), tmp_path / "out")
    assert ["query '0', item '0': 4, 3, 3" in note for note in result["notes"]].count(True) == 1
    assert open_dataset(tmp_path / "out", TABLES).judgments.grades.tolist() == [3, 1, 3]


def attempt(run: Callable[[], dict]) -> dict | None:
    """What an import gives, None when it is refused in one line; any other exception fails the test."""
    try:
        return run()
    except InputError as error:
        refused = str(error)
    assert "\n" not in refused
    return None


cell = st.sampled_from(
    ["", "0", "1", "2", "nan", "Exact", "partial", "a:b|c", "&nbsp;", '"', '""', "\t", ",", "\n", "é"]
)
line = st.lists(cell | st.text(max_size=3), max_size=10).map("\t".join)


def _header(content: str) -> st.SearchStrategy[bytes]:
    """Mostly the right header and rows of any cells; now and then bytes of any kind."""
    head = content.split("\n", 1)[0]
    rows = st.lists(st.sampled_from(content.split("\n")[1:]) | line, max_size=4)
    text = rows.map(lambda found: "\n".join([head, *found])).map(lambda text: text.encode("utf-8", "replace"))
    return text | st.binary(max_size=40)


def test_awkward_fuzz_wands(tmp_path, fuzz):
    def check(query: bytes, product: bytes, label: bytes) -> None:
        for name, content in (("query", query), ("product", product), ("label", label)):
            (tmp_path / f"{name}.csv").write_bytes(content)
        result = attempt(lambda: import_wands(tmp_path, tmp_path / "out"))
        if result is None:
            return
        data = open_dataset(tmp_path / "out", TABLES, every_judgment=True)
        assert [len(vars(data)[name]) for name in TABLES] == [result[name] for name in TABLES]
        said = {name: content.decode() for name, content in (("query", query), ("product", product))}
        assert all(query_id in said["query"] for query_id in data.queries.ids)
        assert all(item_id in said["product"] for item_id in data.items.ids.to_pylist())

    fuzz(check, _header(QUERY), _header(PRODUCT), _header(LABEL))


words = st.sampled_from(["a", "b", "us", "jp", "E", "exact", "I", "", "1", "&nbsp;", "<b>x</b>", None])
columns = st.lists(words, min_size=2, max_size=2) | st.sampled_from(
    [[1, 2], [1.0, math.nan], [True, False], [b"\xff", b"a"], [["a"], ["b"]], [{"a": 1}, {"a": 2}], [None, None]]
)


def _changes(names: list[str]) -> st.SearchStrategy[dict]:
    return st.dictionaries(st.sampled_from(names), columns | st.none(), max_size=2)


def test_awkward_fuzz_esci(tmp_path, fuzz):
    parts = ("id", "title", "description", "bullet_point", "brand", "color", "locale")
    products = {f"product_{part}": ["us"] * 2 if part == "locale" else ["a", "b"] for part in parts}
    examples = {"query_id": ["p", "q"], "query": ["sofa", "lamp"], "product_id": ["a", "b"], "split": ["test"] * 2}
    examples |= {"product_locale": ["us"] * 2, "esci_label": ["E", "S"], "small_version": [1, 1]}
    examples |= {"large_version": [1, 1]}

    def check(some: dict, others: dict, locale: str | None, version: str) -> None:
        for name, rows, changes in ((PRODUCTS, products, some), (EXAMPLES, examples, others)):
            made = {key: value for key, value in {**rows, **changes}.items() if value is not None}
            pq.write_table(pa.table(made), tmp_path / name)
        result = attempt(lambda: import_esci(tmp_path, tmp_path / "out", locale, version))
        if result is None:
            return
        data = open_dataset(tmp_path / "out", TABLES, every_judgment=True)
        assert [len(vars(data)[name]) for name in TABLES] == [result[name] for name in TABLES]
        assert result["items"] <= 2
        assert result["judgments"] + result["judgments_of_unknown_products"] <= 2

    locales = st.sampled_from(["us", "US", "jp", None])
    fuzz(check, _changes(list(products)), _changes(list(examples)), locales, st.sampled_from(["small", "large"]))
