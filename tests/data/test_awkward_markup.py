"""HTML in a catalogue's texts: decoded and dropped, and no word lost that is not markup."""

from time import perf_counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.config import QueryGenerationConfig
from taoemb.data.markup import plain, plain_column
from taoemb.data.queries import generate_queries


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Oak &amp; lamp", "Oak & lamp"),
        ("Oak &amp;amp;amp; lamp", "Oak & lamp"),
        ("Oak &#38;#38; lamp &#x26;amp;", "Oak & lamp &"),
        ("&nbsp;", ""),
        ("&amp;nbsp; &#160;\n&#xA0;&shy;", ""),
        ("soft&nbsp;chair &eacute;t&eacute; 90&deg; &#x1F600;", "soft chair été 90° 😀"),
        ("a &amp b &lt 7", "a & b < 7"),
        ("<b>New</b> lamp", "New lamp"),
        ("back<b>pack</b>", "backpack"),
        ("<p>One</p><p>Two<br/>three<BR>four</p>", "One Two three four"),
        ("<ul>\n  <li>red</li>\n  <li>blue</li>\n</ul>", "red\nblue"),
        ("&lt;p&gt;Escaped &lt;b&gt;twice&lt;/b&gt;&lt;/p&gt;", "Escaped twice"),
        ('<script type="x">if (a < b) { "<p>" }</script>Lamp<style>p {}</style>', "Lamp"),
        ("<!DOCTYPE html><!-- a <b> note -->Lamp", "Lamp"),
        ("<![CDATA[<i>Lamp</i> &amp; oak]]>", "Lamp & oak"),
        ('<a title="a > b" href=x.html>Lamp</a>', "Lamp"),
        ('<a href="x"class="y">Lamp</a><font size="2>, oak</font>', "Lamp, oak"),
        ("<td nowrap>oak</td><td>lamp</td>", "oak lamp"),
        ("<o:p></o:p>Lamp", "Lamp"),
    ],
)
def test_markup_goes(written, shown):
    assert plain(written) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a < b and b > a",
        '5" < 7" wide',
        "with love <3",
        "size<medium",
        "if p<q and r>s",
        "<NEW> sofa <sale>",
        "AT&T, R&D, bed&notes, fish & chips",
        "&unknown; &; &#; &#x;",
        "<- left, right ->, <--->",
        "an unclosed <b and <!-- this",
        "wide  gaps\tand\u00a0lines\nstay",
        " edges ",
        "</3",
        "<>",
    ],
)
def test_text_that_is_no_markup_stays(text):
    assert plain(text) == text


pieces = ["<", ">", "&", ";", "#", "/", "=", '"', "'", "-", "!", "x", "b", "nbsp", "amp", "lt", "&amp;", "&lt;", "&gt;"]
pieces += ["&nbsp;", "&#38;", "<b>", "</b>", "<p", "<br/>", "<script>", "</script>", "<!--", "-->", "<![CDATA[", "]]>"]
mess = st.lists(st.sampled_from(pieces) | st.text(max_size=3), max_size=25).map("".join)


@settings(max_examples=500, deadline=None)
@given(mess)
def test_once_is_enough(text):
    once = plain(text)
    assert plain(once) == once
    assert len(once) <= len(text)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_characters="<&", exclude_categories=["Cs"])))
def test_text_without_markup_is_unchanged(text):
    assert plain(text) == text


words = st.text(st.characters(exclude_characters="<>&", exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=6)
tags = st.sampled_from(
    [
        "<b>",
        "</b>",
        "<p>",
        "</P>",
        "<br />",
        '<a href="u">',
        "</a>",
        "<li class=x>",
        "<!-- no -->",
        "<style>i {}</style>",
    ]
)
entities = st.sampled_from([("&amp;", "&"), ("&lt;", "<"), ("&quot;", '"'), ("&nbsp;", " "), ("&#233;", "é")])


@settings(max_examples=300, deadline=None)
@given(st.lists(words.map(lambda word: (word, word)) | tags.map(lambda tag: (tag, "")) | entities, max_size=12))
def test_nothing_outside_tags_is_lost(parts):
    written = " ".join(part for part, _ in parts)
    shown = " ".join(part for _, part in parts)
    assert plain(written).split() == shown.split()


def test_columns():
    column = pa.array(["a &amp; b", None, "plain", "<b>c</b>", "&nbsp;"])
    assert plain_column(column).to_pylist() == ["a & b", None, "plain", "c", ""]
    untouched = pa.array(["x", None])
    assert plain_column(untouched) is untouched
    assert plain_column(pa.array([], pa.string())).to_pylist() == []


def test_hostile_text_takes_no_time():
    """Entities and tags by the ten thousand, closed or not: the time is not the square of the length."""
    ended = ("<script>" * 20_000, "<!--" * 20_000 + "<![CDATA[" * 20_000)
    for text in ("&amp;" * 50_000, "&" + "amp;" * 50_000, "<b " * 50_000, "<p a=" * 50_000, "<" * 100_000, *ended):
        start = perf_counter()
        assert "&amp;" not in plain(text)
        assert perf_counter() - start < 5


def test_queries_of_a_folder_that_no_importer_wrote_hold_no_markup(tmp_path):
    products = [f"<b>{('red', 'blue')[n % 2]}</b>&nbsp;{('lamp', 'chair', 'desk')[n % 3]}" for n in range(60)]
    rows = [{"item_id": str(n), "title": f"Oak &amp; Co {product}"} for n, product in enumerate(products)]
    pq.write_table(pa.Table.from_pylist([*rows, {"item_id": "empty", "title": "&nbsp;"}]), tmp_path / "items.parquet")
    generate_queries(tmp_path, tmp_path / "out", QueryGenerationConfig(count=30))
    words = {
        word
        for text in pq.read_table(tmp_path / "out" / "queries.parquet")["text"].to_pylist()
        for word in text.split()
    }
    assert {"red", "lamp", "chair"} <= words
    assert not {word for word in words if "nbsp" in word or "amp;" in word or "<" in word}
