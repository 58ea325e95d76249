"""Filters mean what they say for any text, in Milvus Lite's own parser and in a real search."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from milvus_lite.search.filter.tokens import TokenKind, tokenize
from pydantic import ValidationError

from taoemb.config import MilvusConfig
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.registry import ReleaseEntry, now
from taoemb.serving.gateway.filters import Filters, Range, expression

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40) | st.text(
    "\"'\\ %_(a)", min_size=1
)
texts = texts.filter(lambda text: not any(ord(char) < 32 or ord(char) == 127 for char in text))
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9)
ranges = st.none() | st.builds(Range, min=numbers, max=numbers)
signals = st.dictionaries(st.from_regex(r"signal_[A-Za-z0-9_]{1,8}", fullmatch=True), ranges.filter(bool), max_size=3)
filters = st.builds(
    Filters,
    brand=st.none() | texts | st.lists(texts, min_size=1, max_size=4),
    category=st.none() | texts,
    price=ranges,
    signals=signals,
)


@given(filters)
@settings(max_examples=300, deadline=None)
def test_strings_stay_strings_and_numbers_numbers(asked: Filters) -> None:
    """Milvus' own tokenizer reads back exactly the values, and nothing but fields and comparisons between them."""
    tokens = tokenize(expression(asked))
    brands = [asked.brand] if isinstance(asked.brand, str) else asked.brand or []
    wanted = [*brands, *([asked.category] if asked.category is not None else [])]
    assert [token.value for token in tokens if token.kind is TokenKind.STRING] == wanted
    asked_ranges = [asked.price, *(values for _, values in sorted(asked.signals.items()))]
    bounds = [bound for one in asked_ranges if one is not None for bound in (one.min, one.max) if bound is not None]
    found = [token.value for token in tokens if token.kind in (TokenKind.FLOAT, TokenKind.INT)]
    assert [math.copysign(value, bound) for value, bound in zip(found, bounds, strict=True)] == [
        float(b) for b in bounds
    ]
    names = {token.text for token in tokens if token.kind is TokenKind.IDENT}
    assert names <= {"brand", "category", "price", *asked.signals}
    assert not {token.kind for token in tokens} & {
        TokenKind.OR,
        TokenKind.NOT,
        TokenKind.NE,
        TokenKind.LIKE,
        TokenKind.LPAREN,
    }


@pytest.mark.parametrize("text", ["", "a\nb", "a\0b", "\x7f", "x" * 513, "\ud800"])
def test_texts_that_no_shop_writes_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Filters(brand=text)


@pytest.mark.parametrize(
    "name", ["rating", "signal_", "signal_a b", "signal_a\n", "signal_é", "price", "signal_x or 1==1"]
)
def test_only_signals_can_be_named(name: str) -> None:
    with pytest.raises(ValidationError):
        Filters(signals={name: Range(min=0)})


NASTY = [
    'a"b',
    "a\\b",
    "a\\",
    '"',
    "'",
    "\\'",
    '" or brand != "',
    "ünï",
    "日本",
    "🙂",
    "a  b",
    "%",
    "a%b",
    "_",
    "{x}",
    "${x}",
    "#",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    """An item of each nasty brand."""
    folder: Path = tmp_path_factory.mktemp("filters")
    with MilvusStore(MilvusConfig(uri=str(folder / "milvus.db"), index="FLAT")) as store:
        store.create_collection("c", 4, "cosine", ["signal_rating"], "item")
        rows = [
            {"item_id": f"i{n}", "vector": np.ones(4, np.float32), "row_hash": n, "title": "t", "brand": brand,
             "category": brand, "price": float(n) - 3, "signal_rating": n / 10}
            for n, brand in enumerate(NASTY)
        ]  # fmt: skip
        store.upsert("c", rows)
        store.load("c")
        times = {"published_at": now(), "items": len(rows)}
        store.registry.write([ReleaseEntry("release-1", "item", "c", "taoemb", "staged", "", **times)])
        yield store


def found(store: MilvusStore, asked: Filters) -> list[str]:
    [hits] = store.search(np.ones((1, 4), np.float32), "release-1", 100, expression(asked))
    return sorted(hit.brand for hit in hits)


@pytest.mark.parametrize("brand", NASTY)
def test_a_brand_finds_its_item_and_no_other(store: MilvusStore, brand: str) -> None:
    assert found(store, Filters(brand=brand)) == [brand]
    assert found(store, Filters(brand=[brand, "nobody"], category=brand)) == [brand]
    assert found(store, Filters(brand=brand + "x")) == []


def test_ranges_are_closed(store: MilvusStore) -> None:
    assert found(store, Filters(price=Range(min=-3, max=-2))) == sorted(NASTY[:2])
    assert found(store, Filters(price=Range(min=1e-7, max=1.0))) == [NASTY[4]]
    assert found(store, Filters(signals={"signal_rating": Range(max=0.1)}, price=Range(min=-2))) == [NASTY[1]]
    assert len(found(store, Filters(price=Range(min=-1e300, max=1e300)))) == len(NASTY)
    assert len(found(store, Filters(price=Range()))) == len(NASTY)
