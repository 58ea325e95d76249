"""Words for missing, decimal commas, grades of other scales, click counts: read rightly, counted, or refused."""

import pytest

from taoemb.data.importers.values import Numbers, UnreadableError
from tests.data.importers.importing import imported, records, refused

QUERIES = "query_id,text\nq,lamp\n"
ITEMS = "item_id,title\n1,Red lamp\n2,Blue lamp\n3,Green lamp\n4,Sofa\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12), ("+12.5", 12.5), ("-.5", -0.5), ("12.", 12), ("1e3", 1000), ("1.5E-1", 0.15), ("007", 7),
        ("12,5", 12.5), ("12,50", 12.5), ("-0,99", -0.99), ("1234,5", 1234.5), ("1234,567", 1234.567), ("0,234", 0.234),
        ("1.234,56", 1234.56), ("1,234.56", 1234.56), ("1,234,567", 1234567), ("1.234.567", 1234567), ("1.234", 1.234),
        ("1 234", 1234), ("1\u00a0234,50", 1234.5), ("1\u202f234.50", 1234.5), ("1'234'567.5", 1234567.5),
        ("1’234", 1234),
    ],
)  # fmt: skip
def test_numbers_that_can_be_read_in_one_way(text, expected):
    assert Numbers(None).read(text) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "dot", "comma"),
    [
        ("1,234", 1234, 1.234),
        ("-12,345", -12345, -12.345),
        ("1.234", 1.234, 1234),
        ("12,5", None, 12.5),
        ("12.5", 12.5, None),
    ],
)
def test_the_decimal_mark_settles_it(text, dot, comma):
    for mark, expected in ((".", dot), (",", comma)):
        if expected is None:
            with pytest.raises(UnreadableError, match=f"is not a number with the decimal mark '{mark}'"):
                Numbers(mark).read(text)
        else:
            assert Numbers(mark).read(text) == expected


@pytest.mark.parametrize(
    "text", ["1_000", "inf", "Infinity", "0x10", "12 $", "1,23,456", "1.23.456", ",", ".", "", "1 23", "--1", "1e", "½"]
)
def test_what_is_no_number(text):
    with pytest.raises(UnreadableError, match="is not a number"):
        Numbers(None).read(text)


def test_two_readings_are_refused_with_the_remedy(tmp_path):
    content = "item_id;title;price\n1;Lamp;1,234\n"
    said = refused(tmp_path, "csv", content)
    assert "line 2, column 'price': '1,234' has two readings (for price); say --decimal , or --decimal ." in said
    assert imported(tmp_path, "csv", content, decimal=",")[1][0]["price"] == 1.234
    assert imported(tmp_path, "csv", content, decimal=".")[1][0]["price"] == 1234
    assert "--decimal 'x': must be . or ," in refused(tmp_path, "csv", content, decimal="x")


@pytest.mark.parametrize("prices", [("1.234", "12,50"), ("12,50", "1.234")])
def test_a_column_does_not_mean_two_things_by_one_mark(tmp_path, prices):
    content = "item_id;title;price\n" + "".join(f"{n};Lamp;{price}\n" for n, price in enumerate(prices))
    said = refused(tmp_path, "csv", content)
    assert "line 3, column 'price'" in said
    assert f"and {prices[0]!r} of the same column don't agree" in said
    assert [item["price"] for item in imported(tmp_path, "csv", content, decimal=",")[1]] == [
        float(price.replace(".", "").replace(",", ".")) for price in prices
    ]


def test_words_for_missing(tmp_path):
    content = "item_id,title,brand,price,signal_stars\n1,Lamp,NaN,NULL,nan\n2,None,NAN,n/a,-\n"
    content += "3,nan,none,12,NA\n4,Sofa,NA,#N/A,\\N\n"
    result, items = imported(tmp_path, "csv", content)
    assert items == [
        {"item_id": "1", "title": "Lamp"},
        {"item_id": "2", "title": "None", "brand": "NAN"},
        {"item_id": "3", "title": "nan", "price": 12.0},
        {"item_id": "4", "title": "Sofa", "brand": "NA"},
    ]
    assert result["notes"] == [
        "items, brand: read as missing: 2 ('NaN' 1, 'none' 1)",
        "items, price: read as missing: 3 ('NULL' 1, 'n/a' 1, '#N/A' 1)",
        "items, signal_stars: read as missing: 4 ('nan' 1, '-' 1, 'NA' 1, '\\\\N' 1)",
        "items, title: words for missing, kept as text: 2 ('None' 1, 'nan' 1)",
    ]


def test_ones_own_words_for_missing(tmp_path):
    content = "item_id,title,brand,price\n1,Lamp,none,cheap\n2,Sofa,?,12\n"
    assert "line 2, column 'price': 'cheap' is not a number (for price); if it means missing, say --null" in refused(
        tmp_path, "csv", content
    )
    _, items = imported(tmp_path, "csv", content, null_words=("cheap", "?"))
    assert items == [{"item_id": "1", "title": "Lamp"}, {"item_id": "2", "title": "Sofa", "price": 12.0}]
    _, items = imported(tmp_path, "csv", content, null_words=("cheap",), default_nulls=False)
    assert [item["brand"] for item in items] == ["none", "?"]
    said = refused(tmp_path, "csv", content, null_words=("cheap", "Sofa"))
    assert "line 3, column 'title': is null" in said


def grades(tmp_path, *values: str, labels: tuple[str, ...] = ()) -> list[int]:
    _judgments(tmp_path, values)
    imported(tmp_path, "csv", ITEMS, queries=tmp_path / "q.csv", judgments=tmp_path / "j.csv", grades=labels)
    return [row["grade"] for row in records(tmp_path / "out", "judgments")]


def grades_refused(tmp_path, *values: str, labels: tuple[str, ...] = ()) -> str:
    _judgments(tmp_path, values)
    return refused(tmp_path, "csv", ITEMS, queries=tmp_path / "q.csv", judgments=tmp_path / "j.csv", grades=labels)


def _judgments(tmp_path, values: tuple[str, ...]) -> None:
    (tmp_path / "q.csv").write_text(QUERIES)
    rows = [f"q;{n};{value}" for n, value in enumerate(values, 1)]
    (tmp_path / "j.csv").write_text("query_id;item_id;grade\n" + "\n".join(rows))


def test_grades_as_pandas_writes_them(tmp_path):
    assert grades(tmp_path, "4.0", "1", " 2 ", "3,0") == [4, 1, 2, 3]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "3.5",
            "line 2, column 'grade': '3.5' is not a grade from 1 to 4 (for grade); say what",
        ),
        ("0", "is not a grade from 1 to 4"),
        ("5", "is not a grade from 1 to 4"),
        ("Great", "'Great' is not a number"),
        ("", "line 2, column 'grade': is null"),
        ("nan", "line 2, column 'grade': is null"),
    ],
)
def test_what_is_no_grade(tmp_path, value, message):
    assert message in grades_refused(tmp_path, value)


def test_a_scale_is_mapped_whole_or_not_at_all(tmp_path):
    whole = ("0=1", "1=2", "2=3", "3=4")
    assert grades(tmp_path, "3", "0", "2.0", "1", labels=whole) == [4, 1, 3, 2]
    assert "line 2, column 'grade': '3' is none of the labels of --grade (0)" in grades_refused(
        tmp_path, "3", "0", labels=whole[:1]
    )
    assert grades(tmp_path, "3.5", "N/A", "a=b", labels=("3.5=4", "N/A=1", "a=b=2")) == [4, 1, 2]
    assert "'0' has another grade already" in grades_refused(tmp_path, "0", labels=("0=1", "0=2"))


def test_clicks_of_weight_0_are_said(tmp_path):
    (tmp_path / "q.csv").write_text(QUERIES)
    (tmp_path / "p.csv").write_text("query_id,item_id,clicks\nq,1,17\nq,2,0\nq,3,0.0\nq,4,\n")
    result, _ = imported(
        tmp_path, "csv", ITEMS, queries=tmp_path / "q.csv", pairs=tmp_path / "p.csv", mapping=("pairs.weight=clicks",)
    )
    assert result["notes"] == [
        "2 pairs of weight 0 are taken as known answers (no negatives, never drawn as positives); leave out rows that "
        "only say that nobody clicked"
    ]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (("title=title", "title=name"), "--map 'title=name': title has another column already"),
        (("queries.title=name",), "--map 'queries.title=name': expected FIELD=COLUMN"),
        (("attributes.=x",), "--map 'attributes.=x'"),
        (("brand=maker",), "--map: no file has a column 'maker'"),
    ],
)
def test_mappings_that_would_do_nothing(tmp_path, mapping, message):
    assert message in refused(tmp_path, "csv", ITEMS, mapping=mapping)
