"""CSV as it is found: stray quotes, containers, encodings, dialects. Rows are never lost without a word."""

import bz2
import gzip
import io
import lzma
import zipfile

import pytest

from tests.data.importers.importing import imported, kind_of, refused

HEAD = "item_id,price,title\n"
LAMPS = [f"{n},{n},Lamp {n}" for n in range(1, 40)]


def lamps(**changed: str) -> str:
    """39 rows, some of them changed: `at3='…'` is row 3 (line 4)."""
    return HEAD + "".join(changed.get(f"at{n}", line) + "\n" for n, line in enumerate(LAMPS, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lamps(at2='2,12,"5 inch pipe'), "line 3: a quote opens here and is never closed"),
        (lamps(at39='39,12,"5 inch pipe'), "line 40: a quote opens here and is never closed"),
        (lamps(at2='2,"12,5 inch pipe'), "line 3: a quote opens here and is never closed"),
        (lamps(at1='1,1,"a\nb"', at2='2,2,"c'), "line 4: a quote opens here and is never closed"),
        (
            lamps(at2='2,2,"5 inch', at4='4,4,"7 inch'),
            "line 5: text after the quote that closes the cell opened in line 3",
        ),
        (lamps(at2='2,2,"5" pipe'), "line 3: text after the quote that closes the cell opened in line 3"),
        (lamps(at2='2,2,"5\\" pipe"'), "line 3: text after the quote"),
        # Two inch marks that are a sound cell by accident, over one line break, many, and with empty lines between.
        (lamps(at2='2,2,"5 inch', at3='3,3,Pipe 7"'), "line 3: a quoted cell that opens here holds 1 line breaks"),
        (lamps(at2='2,2,"5 inch', at30='30,30,Pipe 7"'), "line 3: a quoted cell that opens here holds 28 line breaks"),
        (lamps(at2='2,2,"5 inch\n\n', at30='30,30,Pipe 7"'), "line 3: a quoted cell that opens here"),
        (lamps(at2='2,"2,5 inch', at30='30,7",Pipe'), "line 3: a quoted cell that opens here"),
        (lamps(at2='2,2,"5 inch', at3='3,"",3', at30='30,30,Pipe 7"'), "line 3: a quoted cell that opens here"),
    ],
)
def test_a_stray_quote_never_swallows_rows(tmp_path, content, message):
    said = refused(tmp_path, "csv", content)
    assert said.startswith(f"{tmp_path / 'items.csv'}: ")
    assert message in said


def test_a_stray_quote_is_seen_before_the_rest_of_a_large_file_is_in_memory(tmp_path):
    content = HEAD + '1,1,"5 inch\n' + "".join(f"{n},1,Lamp\n" for n in range(2, 5000)) + "nothing closes it"
    assert "line 2: a quoted cell that opens here holds 999 line breaks" in refused(tmp_path, "csv", content)


def test_a_cell_may_hold_rows_where_one_says_so(tmp_path):
    content = lamps(at2='2,2,"5 inch\n3,3,Lamp\n4,4,Pipe"')
    assert "--multiline" in refused(tmp_path, "csv", content)
    result, items = imported(tmp_path, "csv", content, multiline=True)
    assert result["items"] == 39
    assert items[1]["title"] == "5 inch\n3,3,Lamp\n4,4,Pipe"


def test_rows_are_told_against_lines(tmp_path):
    result, items = imported(tmp_path, "csv", lamps(at2='2,2,"two\nlines"', at5="5,5,Lamp\n\n,,\n"))
    assert (result["items"], result["lines"]["items"], len(items)) == (39, 44, 39)
    assert result["notes"] == ["items.csv: 3 empty rows are left out", "items.csv: 1 cells hold line breaks"]


def test_descriptions_of_any_length(tmp_path):
    long = "word " * 100_000
    _, items = imported(tmp_path, "csv", f"item_id,title,description\n1,Lamp,{long}\n")
    assert items[0]["description"] == long.strip()


TWO = "item_id,title,price\n1,Lämp,10\n2,Blue lamp,5\n"


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, TWO)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        TWO.encode(),
        gzip.compress(TWO.encode()),
        gzip.compress(TWO[:20].encode()) + gzip.compress(TWO[20:].encode()),
        bz2.compress(TWO.encode()),
        lzma.compress(TWO.encode()),
        zipped("shop/", "shop/items.csv", "__MACOSX/shop/._items.csv"),
        gzip.compress(TWO.encode("utf-16")),
        TWO.encode("utf-8-sig"),
        TWO.encode("utf-16"),
        b"\xfe\xff" + TWO.encode("utf-16-be"),
        TWO.encode("utf-32"),
        TWO.replace(",", "\t").encode("utf-16"),
        TWO.replace(",", "\t").encode(),
        TWO.replace(",", ";").encode(),
        TWO.replace(",", "|").encode(),
        ("sep=;\r\n" + TWO.replace(",", ";").replace("\n", "\r\n")).encode(),
        ('"sep=,"\n' + TWO).encode(),
        TWO.replace("\n", "\r").encode(),
        TWO.replace("\n", "\r\n").encode(),
        TWO.removesuffix("\n").encode(),
        ("\n\n" + TWO).encode(),
        TWO.replace(",", ", ").encode(),
        TWO.replace(",", ", ").replace("Blue lamp", '"Blue lamp"').encode(),
        TWO.replace("item_id,title", " item_id , title ").encode(),
        TWO.replace("item_id,title", "Item_ID,TITLE").encode(),
        (TWO + ",,\n , ,\n\n").encode(),
        TWO.replace("title,price", "title,note,note,price")
        .replace("Lämp", "Lämp,a,b")
        .replace("Blue lamp", "Blue lamp,,")
        .encode(),
    ],
    ids=kind_of,
)
def test_what_is_unambiguous_is_read(tmp_path, content):
    result, items = imported(tmp_path, "csv", content)
    assert result["items"] == 2
    assert items == [
        {"item_id": "1", "title": "Lämp", "price": 10.0},
        {"item_id": "2", "title": "Blue lamp", "price": 5.0},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            TWO.encode("latin-1"),
            "line 2: is not UTF-8 (byte 0xe4); save the file as UTF-8, or say what it is: --",
        ),
        (TWO.encode("utf-16-le"), "say so: --encoding utf-16-le"),
        (TWO.encode("utf-16-be"), "say so: --encoding utf-16-be"),
        (TWO.encode("utf-16")[:-1], "is not utf-16 text"),
        (gzip.compress(TWO.encode())[:-12], "cannot be unpacked"),
        (gzip.compress(TWO.encode())[:-8] + b"12345678", "cannot be unpacked"),
        (b"\x1f\x8bnonsense", "cannot be unpacked"),
        (bz2.compress(TWO.encode())[:-12], "cannot be unpacked"),
        (lzma.compress(TWO.encode())[:-12], "cannot be unpacked"),
        (zipped("a.csv", "b.csv"), "this zip archive holds 2 files ('a.csv', 'b.csv'), not one; unpack it first"),
        (zipped(), "is an empty zip archive"),
        (zipped("[Content_Types].xml", "xl/sheet.xml"), "is an Excel workbook; save it as CSV"),
        (zipped("a.csv")[:-30], "cannot be unpacked"),
        (b"PAR1....PAR1", "is a Parquet file; use `taoemb data import parquet`"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel workbook"),
        (b"", "is empty"),
        (b"\n\n", "holds no rows"),
        (b"item_id,title\n", "holds no rows"),
        (b"item_id,title\n,\n", "holds no rows"),
        (b"sep=;\n", "holds no rows"),
        (b"item_id,title\n1,La\0mp\n", "holds NUL bytes"),
        (b"item_id,title\n" + b"1,Lamp\n" * 999 + b"2,La\0mp\n", "line 1001: holds a NUL byte"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\xfd", "line 1: is not UTF-8"),
        (TWO.replace("price", "title").encode(), "the header has 'title' more than once (columns 2, 3)"),
        (
            TWO.replace("price", "Title").replace("title", "TITLE").encode(),
            "title could be 'TITLE' or 'Title'; say which",
        ),
        (
            TWO.replace("title", "name").encode(),
            "use --map title=COLUMN (it has 'item_id', 'name', 'price')",
        ),
        (
            TWO.replace(",", "#").encode(),
            "has no column 'item_id' for item_id; use --map item_id=COLUMN (it has 'item",
        ),
        (
            b"item_id,title\n1,Red, lamp\n",
            "line 2: has more or fewer cells than the header (3, not 2, with",
        ),
        (b"item_id,title\n1\n", "line 2: has more or fewer cells than the header (1, not 2"),
        (b"item_id,title,attributes\n1,Lamp,red\n", "line 2, column 'attributes': 'red' holds no attributes by name"),
    ],
    ids=kind_of,
)
def test_the_rest_is_refused_with_place_and_remedy(tmp_path, content, message):
    assert message in refused(tmp_path, "csv", content)


def test_an_encrypted_zip(tmp_path):
    content = bytearray(zipped("a.csv"))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1
    assert "is encrypted; unpack it first" in refused(tmp_path, "csv", bytes(content))


@pytest.mark.parametrize("name", ["hex", "no-such", "rot13", "undefined", ""])
def test_an_encoding_that_is_none(tmp_path, name):
    assert f"--encoding {name!r}: not a known encoding" in refused(tmp_path, "csv", TWO, encoding=name)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "cp437"])
def test_a_named_encoding(tmp_path, encoding):
    _, items = imported(tmp_path, "csv", TWO.encode(encoding), encoding=encoding)
    assert items[0]["title"] == "Lämp"
    _, items = imported(tmp_path, "csv", TWO.encode("utf-8-sig"), encoding=encoding)  # a mark says what it is
    assert items[0]["title"] == "Lämp"


@pytest.mark.parametrize("delimiter", ['"', "\n", "::", ""])
def test_a_delimiter_that_is_none(tmp_path, delimiter):
    assert "must be one character" in refused(tmp_path, "csv", TWO, delimiter=delimiter)


def test_a_folder_is_no_file(tmp_path):
    assert "is a folder; give a file" in refused(tmp_path, "csv", tmp_path)


def test_columns_that_are_left_out_are_named(tmp_path):
    content = "item_id,title,stock,\n1,Lamp,3,x\n"
    result, _ = imported(tmp_path, "csv", content)
    assert result["notes"] == ["items: columns that are left out: 'stock', ''"]
    result, items = imported(tmp_path, "csv", content, rest_as_attributes=True)
    assert result["notes"] == ["items: columns that are left out: ''"]
    assert items[0]["attributes"] == {"stock": "3"}


def test_attributes_in_cells_and_in_columns_of_their_own_name(tmp_path):
    content = 'item_id,title,attributes,attributes.size\n1,Lamp,"{""colour"": ""red"", ""fit"": {""cap"": ""E""}}",L\n'
    _, items = imported(tmp_path, "csv", content)
    assert items[0]["attributes"] == {"colour": "red", "fit.cap": "E", "size": "L"}


def test_an_optional_field_can_be_left_out(tmp_path):
    content = TWO.replace("10", "10 $")
    assert "'10 $' is not a number (for price)" in refused(tmp_path, "csv", content)
    _, items = imported(tmp_path, "csv", content, mapping=("price=",))
    assert "price" not in items[0]
    assert "--map 'title='" in refused(tmp_path, "csv", content, mapping=("title=",))
