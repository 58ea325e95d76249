"""ESCI in the published layout, small."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.data.dataset import open_dataset
from taoemb.data.importers.esci import EXAMPLES, PRODUCTS, import_esci
from taoemb.data.validate import validate
from taoemb.errors import InputError

TABLES = ("items", "queries", "pairs", "judgments")
PRODUCT_ROWS = {
    "product_id": ["B1", "B2", "B3", "B4", "B1"],
    "product_title": ["Red sofa", "Blue sofa", "Sofa cover", None, "Sofá rojo"],
    "product_description": ["Soft.", None, "<p>Fits all</p>", "?", None],
    "product_bullet_point": ["Two seats\nWashable", None, None, None, None],
    "product_brand": ["Norrvik", "", None, "X", "Norrvik"],
    "product_color": ["Red", None, "Grey", None, "Rojo"],
    "product_locale": ["us", "us", "us", "us", "es"],
}
EXAMPLE_ROWS = {
    "example_id": [0, 1, 2, 3, 4, 5],
    "query": ["red sofa", "red sofa", "red sofa", "red sofa", "blue sofa", "sofá"],
    "query_id": [7, 7, 7, 7, 8, 9],
    "product_id": ["B1", "B2", "B3", "B4", "B2", "B1"],
    "product_locale": ["us", "us", "us", "us", "us", "es"],
    "esci_label": ["E", "S", "C", "I", "E", "E"],
    "small_version": [1, 1, 1, 1, 0, 1],
    "large_version": [1, 1, 1, 1, 1, 1],
    "split": ["train", "train", "train", "train", "test", "test"],
}


def write(root: Path, products: dict | None = None, examples: dict | None = None) -> Path:
    root.mkdir(exist_ok=True)
    for name, rows, changes in ((PRODUCTS, PRODUCT_ROWS, products), (EXAMPLES, EXAMPLE_ROWS, examples)):
        kept = {key: value for key, value in {**rows, **(changes or {})}.items() if value is not None}
        pq.write_table(pa.table(kept), root / name, row_group_size=2)
    return root


def test_one_locale(tmp_path):
    result = import_esci(write(tmp_path / "esci"), tmp_path / "out")
    assert {key: result[key] for key in (*TABLES, "items_without_title")} == {
        "items": 3,
        "queries": 2,
        "pairs": 2,
        "judgments": 4,
        "items_without_title": 1,
    }
    assert validate(tmp_path / "out").ok
    data = open_dataset(tmp_path / "out", TABLES)
    assert data.queries.texts == ["red sofa", "blue sofa"]
    assert data.queries.slices == [("split:train",), ("split:test",)]
    assert data.judgments.grades.tolist() == [4, 3, 2, 4]
    assert set(data.judgments.sources) == {"esci"}
    assert data.items.ids_of(data.pairs.item_rows) == ["B1", "B2"]
    first, second, third = data.items.records([0, 1, 2])
    assert first["attributes"] == {"colour": "Red"}
    assert first["description"] == "Soft.\nTwo seats\nWashable"
    assert (second["brand"], second["description"], second["attributes"]) == (None, None, {})
    assert third["attributes"] == {"colour": "Grey"}


def test_the_small_version(tmp_path):
    result = import_esci(write(tmp_path / "esci"), tmp_path / "out", version="small")
    assert (result["items"], result["queries"], result["judgments"]) == (3, 1, 3)


def test_all_locales_keep_their_products_apart(tmp_path):
    import_esci(write(tmp_path / "esci"), tmp_path / "out", locale=None)
    data = open_dataset(tmp_path / "out", TABLES)
    assert data.items.ids.to_pylist() == ["us:B1", "us:B2", "us:B3", "es:B1"]
    assert data.items.ids_of(data.judgments.item_rows[-1:]) == ["es:B1"]


@pytest.mark.parametrize(
    ("products", "examples", "message"),
    [
        (None, {"esci_label": ["E", "S", "C", "I", "X", "E"]}, r"row 4, column 'esci_label': label 'X'"),
        (None, {"esci_label": None}, "column 'esci_label' is missing"),
        ({"product_title": None}, None, "column 'product_title' is missing"),
        ({"product_locale": ["jp"] * 5}, None, "no product of locale 'us'"),
        ({"product_locale": ["jp"] * 5}, None, "it has the locales jp: choose another --locale"),
        (None, {"product_id": [f"X{n}" for n in range(6)]}, f"none of its products is in {PRODUCTS}"),
        (None, {"query": ["a", "b", "a", "a", "c", "d"]}, "query_id '7' stands for 'a' and for 'b'"),
        (None, {"large_version": [0] * 6}, "no example of locale 'us' has large_version 1"),
        ({"product_title": [[1], [2], [3], [4], [5]]}, None, "column 'product_title' cannot be read as text"),
        ({"product_title": [b"\xff"] * 5}, None, "column 'product_title' cannot be read as text"),
        (
            {"product_id": ["B1", "B1", "B3", "B4", "B5"]},
            None,
            rf"{PRODUCTS}: items: column 'item_id' stands in an earlier row already: 'B1'",
        ),
    ],
)
def test_bad_input(tmp_path, products, examples, message):
    with pytest.raises(InputError, match=message):
        import_esci(write(tmp_path / "esci", products, examples), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["esci"], "nothing half-written stays"


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(InputError, match=rf"{EXAMPLES}: no such file"):
        import_esci(tmp_path, tmp_path / "out")
    root = write(tmp_path / "esci")
    (root / PRODUCTS).write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        import_esci(root, tmp_path / "out")
