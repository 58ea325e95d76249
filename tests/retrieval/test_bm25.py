"""The BM25 route against a plain computation of the same formula, and the tokeniser that the rewards share."""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.data.dataset import Catalogue
from taoemb.data.schemas import ITEMS
from taoemb.errors import InputError
from taoemb.retrieval import bm25
from taoemb.retrieval.bm25 import BM25Route, overlap, terms

VOCABULARY = ["red", "blue", "sofa", "lamp", "oak", "steel", "wool", "rug"]


def shelf(records: list) -> Catalogue:
    """A catalogue of these items; a plain string is a title."""
    items = [record if isinstance(record, dict) else {"title": record} for record in records]
    rows = [{"item_id": f"i{row}", **item} for row, item in enumerate(items)]
    return Catalogue(pa.Table.from_pylist(rows, schema=ITEMS))


def _by_formula(documents: list[list[str]], query: str) -> np.ndarray:
    lengths = [len(document) for document in documents]
    average = sum(lengths) / len(lengths)
    scores = np.zeros(len(documents))
    for row, document in enumerate(documents):
        counts = Counter(document)
        for term in set(terms(query)) & set(counts):
            holders = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            scores[row] += idf * counts[term] / (counts[term] + 1.5 * (0.25 + 0.75 * lengths[row] / average))
    return scores


@settings(max_examples=40, deadline=None)
@given(
    titles=st.lists(
        st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=25
    ),
    query=st.lists(st.sampled_from([*VOCABULARY, "unheard"]), max_size=4).map(" ".join),
    top=st.integers(1, 30),
)
def test_the_route_is_bm25_with_the_lower_row_first(titles, query, top):
    scores = _by_formula([terms(title) for title in titles], query)
    found = BM25Route(shelf(titles), top).top([query])[0]
    rows = found[found >= 0]
    assert found.tolist() == [*rows, *[-1] * (top - len(rows))]
    best = np.sort(scores[scores > 0])[::-1][:top]
    np.testing.assert_allclose(scores[rows], best, rtol=1e-5)  # rows may swap only where rounding makes scores equal
    for title in titles:
        same = [row for row in rows if titles[row] == title]
        assert same == [row for row, other in enumerate(titles) if other == title][: len(same)]


def test_brand_category_and_attribute_values_are_read_but_not_names():
    items = [
        {"title": "sofa", "brand": "Nordica", "category": "furniture/sofas", "attributes": {"colour": "teal"}},
        {"title": "lamp", "brand": None, "category": None, "attributes": None},
    ]
    route = BM25Route(shelf(items), 2)
    assert route.top(["nordica", "furniture", "teal", "colour", "lamp"])[:, 0].tolist() == [0, 0, 0, -1, 1]


def test_equal_scores_at_the_cut_keep_the_lowest_rows():
    route = BM25Route(shelf(["red lamp"] * 50), 5)
    assert route.top(["lamp"])[0].tolist() == [0, 1, 2, 3, 4]


def test_word_order_and_repeats_do_not_matter():
    route = BM25Route(shelf(["red oak lamp", "oak rug", "red rug", "steel lamp", "wool"]), 5)
    first, second, third = route.top(["red oak rug", "rug red oak", "red red oak rug oak"])
    assert first.tolist() == second.tolist() == third.tolist()


def test_remembering_is_bounded_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(bm25, "MEMORY", 2)
    route = BM25Route(shelf(["red lamp", "blue lamp", "oak rug"]), 3)
    queries = ["red", "blue", "rug", "red", "red", "blue"]
    first = route.top(queries)
    assert len(route._known) == 2
    np.testing.assert_array_equal(route.top(queries), first)
    first[:] = 7  # the caller may write into the answer
    assert route.top(["red"])[0, 0] == 0


def test_a_catalogue_without_words_answers_nothing():
    assert BM25Route(shelf(["!!!", "—"]), 2).top(["lamp", ""]).tolist() == [[-1, -1], [-1, -1]]


def test_a_depth_below_one_is_refused():
    with pytest.raises(InputError, match="depth"):
        BM25Route(shelf(["lamp"]), 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Women's Boots & Shoes", ["women", "boot", "shoe"]),
        ("'sweet' dresses, 2 boxes", ["sweet", "dress", "2", "box"]),
        ("berries glass status series-7", ["berry", "glass", "status", "sery", "7"]),
        ("2.5mm x_y 1,000", ["2.5", "mm", "x", "y", "1", "000"]),
        ("CRÈME Straße ﬁne", ["crème", "strasse", "fine"]),
        ("红色连衣裙 XL", ["红", "色", "连", "衣", "裙", "xl"]),
        ("", []),
    ],
)
def test_terms(text, expected):
    assert terms(text) == expected


@given(st.text(max_size=40))
def test_terms_are_stable_when_read_again(text):
    words = terms(text)
    assert all(word and not word.isspace() for word in words)
    assert overlap(text, text) == 1.0


@pytest.mark.parametrize(
    ("query", "title", "share"),
    [("red sofas", "a red sofa", 1.0), ("red sofa bed", "sofa", 1 / 3), ("lamp lamp", "rug", 0.0), ("?", "rug", 1.0)],
)
def test_overlap_is_the_share_of_covered_query_terms(query, title, share):
    assert overlap(query, title) == pytest.approx(share)
