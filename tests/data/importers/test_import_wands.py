"""WANDS in the published layout, small."""

from pathlib import Path

import pytest

from taoemb.data.dataset import open_dataset
from taoemb.data.importers.wands import import_wands
from taoemb.data.validate import validate
from taoemb.errors import InputError

TABLES = ("items", "queries", "pairs", "judgments")
QUERY = "query_id\tquery\tquery_class\n0\tsalon chair\tMassage Chairs\n1\tsmart coffee table\t\n"
PRODUCT = (
    "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\tproduct_features"
    "\trating_count\taverage_rating\treview_count\n"
    "0\tsolid wood platform bed\tBeds\tFurniture / Bedroom\tgood, deep sleep\t"
    "overallwidth-sidetoside:64.7|style : modern|style : rustic|empty: |nocolon\t15.0\t4.5\t15.0\n"
    '1\tchair\t\t\t"a ""quoted""\tcell\nof two lines"\t\t\t\t\n'
)
LABEL = "id\tquery_id\tproduct_id\tlabel\n0\t0\t1\tExact\n1\t0\t0\tIrrelevant\n2\t1\t0\tPartial\n"


def write(root: Path, query: str = QUERY, product: str = PRODUCT, label: str = LABEL) -> Path:
    root.mkdir()
    for name, content in (("query", query), ("product", product), ("label", label)):
        (root / f"{name}.csv").write_text(content, encoding="utf-8")
    return root


def test_the_published_layout(tmp_path):
    result = import_wands(write(tmp_path / "wands"), tmp_path / "out")
    assert {name: result[name] for name in TABLES} == {"items": 2, "queries": 2, "pairs": 1, "judgments": 3}
    assert validate(tmp_path / "out").ok
    data = open_dataset(tmp_path / "out", TABLES)
    bed, chair = data.items.records([0, 1])
    assert bed["attributes"] == {"overallwidth-sidetoside": "64.7", "style": "modern, rustic"}
    assert (bed["category"], bed["title"]) == ("Beds", "solid wood platform bed")
    assert data.items.signals == ("signal_rating_count", "signal_average_rating", "signal_review_count")
    assert (bed["signal_average_rating"], bed["signal_rating_count"], chair["signal_review_count"]) == (4.5, 15.0, None)
    assert chair["description"] == 'a "quoted"\tcell\nof two lines'
    assert data.queries.slices == [("category:Massage Chairs",), ()]
    assert data.judgments.grades.tolist() == [4, 1, 3]
    assert data.items.ids_of(data.pairs.item_rows) == ["1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"label": LABEL.replace("Partial", "Maybe")},
            r"label\.csv: line 4, column 'label': label 'Maybe'",
        ),
        ({"label": LABEL.replace("1\t0\t0", "1\t0\t9")}, "names no row of items.parquet: '9'"),
        (
            {"product": PRODUCT.replace("4.5", "high")},
            r"product\.csv: line 2, column 'average_rating': 'high' is not a number",
        ),
        ({"product": PRODUCT.replace("product_name", "name")}, "column 'product_name' is missing"),
        ({"product": PRODUCT.replace("\t", "~")}, "expected tab-separated"),
        ({"product": PRODUCT.replace("\t", ",")}, r"product\.csv: line 2: has more or fewer cells than the header"),
        ({"query": QUERY + "2\tonly two\n"}, r"query\.csv: line 4: has more or fewer cells"),
        ({"query": QUERY.replace("salon chair", "")}, "queries.parquet, row 0, column 'text': is null"),
    ],
)
def test_bad_input(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        import_wands(write(tmp_path / "wands", **changes), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["wands"]


def test_missing_and_unreadable_files(tmp_path):
    root = write(tmp_path / "wands")
    (root / "query.csv").write_bytes(b"query_id\tquery\tquery_class\n0\t\xff\xfe\tx\n")
    with pytest.raises(InputError, match=r"query\.csv: line 2: is not UTF-8"):
        import_wands(root, tmp_path / "out")
    (root / "query.csv").unlink()
    with pytest.raises(InputError, match=r"query\.csv: no such file"):
        import_wands(root, tmp_path / "out")
