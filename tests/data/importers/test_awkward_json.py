"""JSON as it is found: arrays, nested attributes, numbers for text, keys that stand twice. Nothing is dropped."""

import gzip
import json

import pytest

from tests.data.importers.importing import imported, kind_of, records, refused

ONE = '{"item_id": "1", "title": "Lamp"}'


@pytest.mark.parametrize(
    "content",
    [
        ONE,
        f"\n  {ONE}\n\n",
        f"[{ONE}]",
        json.dumps([json.loads(ONE)], indent=1),
        f" [ {ONE} ] \n",
        f"[{ONE}\r\n]".encode("utf-16"),
        gzip.compress(f"[{ONE}]".encode("utf-8-sig")),
        ONE.replace("item_id", "Item_ID"),
    ],
    ids=kind_of,
)
def test_lines_and_arrays(tmp_path, content):
    _, items = imported(tmp_path, "jsonl", content)
    assert items == [{"item_id": "1", "title": "Lamp"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no rows"),
        ("{}\n{}", "holds no rows"),
        ("", "is empty"),
        (" \n", "holds no rows"),
        (
            json.dumps(json.loads(ONE), indent=1),
            "line 1 is not JSON (Expecting property name",
        ),
        (f"[\n{ONE}\n{ONE}]", "line 3: is not JSON (expected ',' or ']' after an entry)"),
        (f"[\n{ONE},\n1]", "entry 2 (line 3) is not a JSON object"),
        (f"[\n{ONE},\n]", "line 3 is not JSON (Expecting value"),
        (f"[\n{ONE},\n", "line 3 is not JSON (Expecting value"),
        (f"[{ONE}]\n{ONE}", "line 1: something follows the array"),
        (f"[\n{ONE},\n" + '{"item_id": "2",\n "title": nope}]', "line 4 is not JSON (Expecting value"),
        (
            f"{ONE}\n" + '{"item_id": "2", "title": "a", "title": "b"}',
            "line 2 is not JSON (the key 'title' stands twice",
        ),
        ('{"item_id": "1", "title": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 1: is nested too deep"),
        ('{"item_id": "1", "title": "Lamp", "a": ' + "1" * 5000 + "}", "line 1 is not JSON (Exceeds the limit"),
        ('{"items": [' + ONE + "]}", "has no column 'item_id' for item_id; use --map item_id=COLUMN (it has 'items')"),
        (f"[\n{ONE},\n{ONE}]", "entry 2 (line 3), column 'item_id': stands in an earlier row already: '1'"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path, content, message):
    assert message in refused(tmp_path, "jsonl", content)


def attributes(tmp_path, said: str, **options) -> dict[str, str]:
    _, items = imported(tmp_path, "jsonl", f'{{"item_id": "1", "title": "Lamp", "attributes": {said}}}', **options)
    return items[0].get("attributes", {})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"fit": {"cap": "E27", "bulbs": {"n": 2}}}', {"fit.cap": "E27", "fit.bulbs.n": "2"}),
        ('{"parts": [{"a": 1}, {"a": 2}]}', {"parts.0.a": "1", "parts.1.a": "2"}),
        ('{"specs": [{"name": "Cap", "value": "E27"}]}', {"specs.Cap": "E27"}),
        ('[{"name": "cap", "value": "E27"}, {"name": "cap", "value": "E14"}]', {"cap": "E27, E14"}),
        ('[{"key": "cap", "value": ["a", ["b"]]}]', {"cap": "a, b"}),
        ('{"a": null, "b": [], "c": {}, "d": "", "e": "NaN", "f": [null, "x"], "g": NaN}', {"f": "x"}),
        (
            '{"arms": "none", "n": 1.5, "on": true}',
            {"arms": "none", "n": "1.5", "on": "yes"},
        ),
        ('{"a.b": 1, "a": {"b": 1}}', {"a.b": "1"}),
        ('"{\\"cap\\": \\"E27\\"}"', {"cap": "E27"}),
        ("null", {}),
        ("[]", {}),
    ],
)
def test_nested_attributes_are_flattened(tmp_path, said, expected):
    assert attributes(tmp_path, said) == expected


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"a.b": 1, "a": {"b": 2}}', "gives the attribute 'a.b' twice (for attributes); name them one by one"),
        ('["red", "blue"]', "column 'attributes': ['red', 'blue'] holds no attributes by name"),
        ('[{"name": "cap"}]', "holds no attributes by name"),
        ("3", "3 holds no attributes by name"),
        ('"red"', "'red' holds no attributes by name"),
        ('{"a": Infinity}', "is not a finite number"),
        ('{"a": "\\ud800"}', "is not Unicode text (half of a surrogate pair)"),
        ('{"a": ' + '{"a": ' * 50 + "1" + "}" * 50 + "}", "is nested too deep"),
        ('{"a": ' + "[" * 900 + "1" + "]" * 900 + "}", "is nested too deep"),
    ],
)
def test_attributes_that_would_lose_something_are_refused(tmp_path, said, message):
    assert message in refused(tmp_path, "jsonl", f'{{"item_id": "1", "title": "Lamp", "attributes": {said}}}')


def test_other_columns_as_attributes_are_flattened_too(tmp_path):
    row = '{"item_id": 1, "title": "Lamp", "specs": {"cap": "E27"}, "tags": ["a", "b"], "price": null}'
    _, items = imported(tmp_path, "jsonl", row, rest_as_attributes=True)
    assert items[0]["attributes"] == {"specs.cap": "E27", "tags": "a, b"}


def test_a_path_maps_what_is_nested(tmp_path):
    rows = '{"item_id": 1, "title": {"en": "Lamp"}, "category": ["Home", "Light"]}\n'
    rows += '{"item_id": 2, "title": {"en": "Sofa"}}'
    assert "take what is in it with --map title=title.KEY" in refused(tmp_path, "jsonl", rows)
    assert "take one entry with --map category=category.0" in refused(
        tmp_path, "jsonl", rows, mapping=("title=title.en",)
    )
    _, items = imported(tmp_path, "jsonl", rows, mapping=("title=title.en", "category=category.-1"))
    assert items == [{"item_id": "1", "title": "Lamp", "category": "Light"}, {"item_id": "2", "title": "Sofa"}]
    said = refused(tmp_path, "jsonl", rows, mapping=("title=title.en", "brand=title.maker", "category="))
    assert said == "--map: no file has a column 'title.maker'"


def test_a_signal_that_first_appears_late_is_kept(tmp_path):
    rows = [{"item_id": n, "title": f"Lamp {n}"} for n in range(10_001)] + [
        {"item_id": "z", "title": "Sofa", "signal_new": True, "Brand": "Norr"}
    ]
    _, items = imported(tmp_path, "jsonl", "\n".join(map(json.dumps, rows)))
    assert items[-1] == {"item_id": "z", "title": "Sofa", "signal_new": 1.0, "brand": "Norr"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            '{"item_id": 12.5, "title": "Lamp"}',
            "12.5 is no whole number (for item_id); write ids as text",
        ),
        ('{"item_id": 1e300, "title": "Lamp"}', "is no whole number"),
        ('{"item_id": true, "title": "Lamp"}', "column 'item_id': True is not text"),
        ('{"item_id": "\\udc00", "title": "Lamp"}', "is not Unicode text"),
        ('{"item_id": 1, "title": false}', "column 'title': False is not text"),
        ('{"item_id": 1, "title": 1e999}', "is not a finite number"),
        ('{"item_id": 1, "title": "Lamp", "price": 1e400}', "column 'price': inf is not a finite number"),
        ('{"item_id": 1, "title": "Lamp", "price": true}', "column 'price': True is not a number"),
        ('{"item_id": 1, "title": "Lamp", "price": [1]}', "column 'price': [1] is not a number"),
        ('{"item_id": 1, "title": "Lamp", "price": ' + "9" * 400 + "}", "is not a finite number"),
        ('{"item_id": 1, "title": "Lamp", "signal_x": 1e39}', "1e+39 is too large for a 32-bit float"),
        ('{"item_id": null, "title": "Lamp"}', "line 1, column 'item_id': is null"),
        ('{"item_id": NaN, "title": "Lamp"}', "line 1, column 'item_id': is null"),
        ('{"item_id": 1, "title": " "}', "line 1, column 'title': is null"),
    ],
)
def test_values_of_the_wrong_kind(tmp_path, row, message):
    assert message in refused(tmp_path, "jsonl", row)


def test_numbers_for_text(tmp_path):
    rows = '{"item_id": 12.0, "title": 7, "brand": 1.5}\n{"item_id": 123456789012345678901234567890, "title": ["Lamp"]}'
    _, items = imported(tmp_path, "jsonl", rows)
    assert items == [
        {"item_id": "12", "title": "7", "brand": "1.5"},
        {"item_id": "123456789012345678901234567890", "title": "Lamp"},
    ]


def test_slices(tmp_path):
    (tmp_path / "q.jsonl").write_text(
        '{"query_id": 1, "text": "lamp", "slices": ["a", null, 2]}\n{"query_id": 2, "text": "None", "slices": "a| b|"}'
    )
    result, _ = imported(tmp_path, "jsonl", ONE, queries=tmp_path / "q.jsonl")
    assert [row["slices"] for row in records(tmp_path / "out", "queries")] == [["a", "2"], ["a", "b"]]
    assert result["notes"] == ["queries, text: words for missing, kept as text: 1 ('None' 1)"]
