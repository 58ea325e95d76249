"""Whatever is imported: what comes out is what went in, or one line says what is wrong. Nothing lost, nothing invented.

`make test` draws 2,000 examples a test, `make fuzz-inputs` 100,000. Markup has tests of its own, so there is none here.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import assume, event
from hypothesis import strategies as st

from taoemb.data.importers.columns import Columns
from taoemb.data.importers.delimited import CsvFile, Dialect
from taoemb.data.importers.json_lines import JsonFile
from taoemb.data.importers.parquet import ParquetFiles
from taoemb.data.importers.source import SourceFile
from taoemb.data.importers.table import Table
from taoemb.data.importers.tabular import TableImport
from taoemb.data.importers.values import TEXT_NULLS, Reading
from taoemb.errors import InputError
from tests.conftest import Fuzz
from tests.data.importers.importing import IMPORTERS

FIELDS = ("item_id", "title", "brand", "description", "price")
PACKED = {
    "as it is": bytes,
    "gzip": lambda data: gzip.compress(data, 1),
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zip": lambda data: _zipped(data),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "utf-16-le")
MARKED = ("utf-8", "utf-8-sig", "utf-16", "utf-32")

nasty = st.sampled_from(list("\"',;\t|\n\r\\ abé漢=.0-_#{}[]:\u00a0\u2028\ufeff"))
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0<>&")
words = st.sampled_from(["NaN", "None", "null", "N/A", "NAN", "sep=;", '"', '""', "item_id", "1,2", "true", "\\N"])
texts = st.text(nasty | letters, max_size=12) | words
filled = texts.filter(str.strip)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "item_id": filled,
            "title": filled,
            "brand": texts,
            "description": texts,
            "price": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        }
    ),
    min_size=1,
    max_size=4,
)


def _zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("shop/items", data)
    return out.getvalue()


def said(value: str) -> str | None:
    """An optional text as it should come out."""
    return value.strip() if value.strip() and value.strip() not in TEXT_NULLS else None


def expected(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: row[name].strip() for name in ("item_id", "title")}
        | {name: said(row[name]) for name in ("brand", "description")}
        | {"price": row["price"]}
        for row in table
    ]


def read(opened: Callable[[Columns], SourceFile], rest: bool = False) -> list[dict[str, Any]] | str:
    """The items of a file as they would be written, or why they are not."""
    columns = Columns("items", {})
    try:
        batches = list(Table(columns, opened(columns), Reading(), rest).batches())
    except InputError as error:
        return str(error)
    return [row for batch in batches for row in batch.to_pylist()]


def fields(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: item[name] for name in FIELDS} for item in items]


def csv_bytes(table: list[dict[str, Any]], delimiter: str, end: str, quote_all: bool, head: list[str]) -> str:
    out = io.StringIO(newline="")
    # Python's writer leaves a lone \r unquoted where lines end with \n, so such files quote everything.
    quoting = csv.QUOTE_ALL if quote_all or end != "\r\n" else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(head)
    writer.writerows([["" if row[name] is None else row[name] for name in FIELDS] for row in table])
    return out.getvalue()


def test_awkward_fuzz_csv_comes_out_as_it_went_in(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "items"

    def check(table, delimiter, end, quote_all, upper, sep, multiline, encoding, packing, tail):
        head = [name.upper() if upper else name for name in FIELDS]
        text = csv_bytes(table, delimiter, end, quote_all, head)
        text = (f"sep={delimiter}{end}" if sep else "") + text + (delimiter * 4 + end) * tail
        try:
            content = text.encode(encoding)
        except UnicodeEncodeError:
            encoding, content = "utf-8", text.encode()
        path.write_bytes(PACKED[packing](content))
        named = None if encoding in MARKED else encoding
        items = read(lambda columns: CsvFile(path, Dialect(named, None, multiline), columns.fits))
        if isinstance(items, str):
            assert "say --multiline" in items, text
            assert not multiline
            event("refused: like rows")
        else:
            assert fields(items) == expected(table)

    fuzz(
        check,
        rows,
        st.sampled_from(",;\t|"),
        st.sampled_from(["\r\n", "\n", "\r"]),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans() | st.just(True),
        st.sampled_from(ENCODINGS),
        st.sampled_from(list(PACKED)),
        st.integers(0, 2),
    )


def test_awkward_fuzz_a_stray_quote_costs_no_row(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"

    def check(lines: int, width: int, places: list[int], first: int) -> None:
        """A plain file of words with quotes put anywhere: all its rows come out, or it is refused."""
        head = ["price", "brand", "description", "title"][4 - width :]
        head.insert(first % width, "item_id")
        body = [",".join(f"{name[0]}{n}" if name != "price" else str(n) for name in head) for n in range(lines)]
        text = ",".join(head) + "\n" + "".join(f"{line}\n" for line in body)
        start = text.index("\n") + 1
        for place in sorted(places, reverse=True):
            at = start + place % (len(text) - start)
            text = text[:at] + '"' + text[at:]
        path.write_text(text)
        items = read(lambda columns: CsvFile(path, Dialect(), columns.fits))
        if isinstance(items, str):
            assert f"{path}: line " in items
            event("refused")
            return
        event("read")
        assert len(items) == lines, text

    fuzz(
        check,
        st.integers(1, 12),
        st.integers(1, 4),
        st.lists(st.integers(0, 400), min_size=1, max_size=4),
        st.integers(0, 3),
    )


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
keys = st.text(nasty | letters, max_size=4)


def numbered(value: Any, count: list[int]) -> Any:
    """The same shape with a word of its own in every leaf that says something."""
    if isinstance(value, dict):
        return {name: numbered(one, count) for name, one in value.items()}
    if isinstance(value, list):
        return [numbered(one, count) for one in value]
    if value is None:
        return None
    count[0] += 1
    return f"w{count[0]}w"


def says_something(value: Any) -> bool:
    """Whether any leaf does: a name without a value is no attribute."""
    if isinstance(value, dict | list):
        return any(map(says_something, value.values() if isinstance(value, dict) else value))
    return value is not None


shapes = st.recursive(
    st.none() | st.just("w"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.lists(st.fixed_dictionaries({"name": keys, "value": inner.filter(says_something)}), max_size=2)
    ),
    max_leaves=8,
)


def test_awkward_fuzz_json_keeps_every_leaf_of_attributes(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"

    def check(table, attributes, extra, as_array, indent, encoding, packing):
        count = [0]
        attributes, extra = numbered(attributes, count), numbered(extra, count)
        written = [row | {"attributes": attributes, "more": extra} for row in table]
        if as_array:
            text = json.dumps(written, ensure_ascii=bool(indent), indent=indent)
        else:
            text = "\n".join(json.dumps(row, ensure_ascii=bool(indent)) for row in written)
        path.write_bytes(PACKED[packing](text.encode(encoding)))
        items = read(lambda _: JsonFile(path, None), rest=True)
        if isinstance(items, str):
            assert any(why in items for why in ("holds no attributes by name", "twice", "is not text")), items
            event("refused")
            return
        assert fields(items) == expected(table)
        found = dict(items[0]["attributes"])
        # Each word once, as a value or, from a list of names and values, as a name.
        assert sum(len(re.findall(r"w\d+w", one)) for one in found.values()) <= count[0]
        assert all(f"w{n}w" in " ".join([*found, *found.values()]) for n in range(1, count[0] + 1))

    fuzz(
        check,
        rows,
        st.dictionaries(keys, shapes, max_size=3) | shapes,
        shapes,
        st.booleans(),
        st.sampled_from([None, 1]),
        st.sampled_from(MARKED),
        st.sampled_from(list(PACKED)),
    )


def test_awkward_fuzz_parquet_and_json_come_out_the_same(fuzz: Fuzz, tmp_path: Path) -> None:
    parquet, jsonl = tmp_path / "items.parquet", tmp_path / "items.jsonl"

    def check(table, attributes, extra):
        written = [row | {"attributes": attributes, "more": extra} for row in table]
        try:
            arrow = pa.Table.from_pylist(written)
        except (pa.ArrowException, OverflowError):
            assume(False)
        pq.write_table(arrow, parquet)
        # As Arrow holds it: a struct has all the keys that any of the objects has.
        jsonl.write_text("\n".join(json.dumps(row) for row in arrow.to_pylist()))
        outcomes = []
        for source in (lambda _: ParquetFiles(parquet), lambda _: JsonFile(jsonl, None)):
            outcome = read(source, rest=True)
            outcomes.append(outcome.partition(", column ")[2] if isinstance(outcome, str) else outcome)
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], list):
            assert fields(outcomes[0]) == expected(table)

    inner = st.recursive(
        scalars,
        lambda one: st.lists(one, max_size=2) | st.dictionaries(keys, one, min_size=1, max_size=3),
        max_leaves=5,
    )
    fuzz(check, rows, st.dictionaries(keys, inner, min_size=1, max_size=3), inner)


def bent(content: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, put in cuts:
        at %= len(content) + 1
        content = content[:at] + put + content[at + length :]
    return content


junk = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 40), st.binary(max_size=8) | words.map(str.encode)), max_size=4
)


def refusal(work: Callable[[], object]) -> str:
    """The one line of an InputError; empty when there is none."""
    try:
        work()
    except InputError as error:
        return str(error)
    return ""


def _whatever(fuzz: Fuzz, root: Path, kind: str, contents: list[bytes]) -> None:
    """A good file with pieces cut out and put in, or no file at all: a dataset, or one line and nothing left behind."""
    path, out = root / "items", root / "out"

    def check(content: bytes, cuts: list[tuple[int, int, bytes]], rest: bool, encoding: str | None) -> None:
        path.write_bytes(bent(content, cuts))
        shutil.rmtree(out, ignore_errors=True)
        said = refusal(lambda: IMPORTERS[kind](TableImport(path, rest_as_attributes=rest, encoding=encoding), out))
        assert "\n" not in said
        assert set(root.iterdir()) == ({path} if said else {path, out})
        event("refused" if said else "imported")

    encodings = st.none() | st.sampled_from(
        ["utf-16", "latin-1", "utf-7", "shift_jis", "idna", "unicode_escape", "punycode"]
    )
    fuzz(check, st.sampled_from(contents) | st.binary(max_size=200), junk, st.booleans(), encodings)


GOOD = 'item_id,title,price,attributes\n1,"Red ""lamp""",10,"{""a"": 1}"\n2,"Blue\nlämp",5,\n3,Sofa,,\n'
GOOD_JSON = """{"item_id": 1, "title": "Red \\\\"lamp\\\\"", "price": 1e3, "attributes": {"a": {"b": [1, null]}}}
{"item_id": "2", "title": "é"}"""


def packed(text: str) -> list[bytes]:
    return [PACKED[packing](text.encode(encoding)) for packing in PACKED for encoding in ("utf-8", "utf-16")]


def test_awkward_fuzz_whatever_csv(fuzz: Fuzz, tmp_path: Path) -> None:
    _whatever(fuzz, tmp_path, "csv", packed(GOOD))


def test_awkward_fuzz_whatever_json(fuzz: Fuzz, tmp_path: Path) -> None:
    array = "[" + GOOD_JSON.replace("}\n{", "},\n{") + "]"
    _whatever(fuzz, tmp_path, "jsonl", packed(GOOD_JSON) + packed(array))


def test_awkward_fuzz_whatever_parquet(fuzz: Fuzz, tmp_path: Path) -> None:
    contents = []
    for options in (
        {},
        {"compression": "none", "use_dictionary": False},
        {"version": "1.0", "data_page_version": "2.0"},
    ):
        out = io.BytesIO()
        table = pa.table(
            {"item_id": [1, 2], "title": ["Lamp", "é"], "attributes": [{"a": [1]}, None], "price": [1.0, None]}
        )
        pq.write_table(table, out, **options)
        contents.append(out.getvalue())
    _whatever(fuzz, tmp_path, "parquet", contents)
