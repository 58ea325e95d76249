"""Splits: groups stay together, shares hold, templates are disjoint, folders are whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.config import SplitConfig
from taoemb.data.dataset import Queries, open_dataset
from taoemb.data.split import PARTS, assign, split
from taoemb.data.synth import synthesise
from taoemb.data.validate import validate
from taoemb.data.words import near_duplicate_key, stem
from taoemb.errors import InputError

TABLES = ("items", "queries", "pairs", "judgments")
WORDS = ["red", "Red", "sofas", "sofa", "the", "lamp", "LAMPS", "for", "blue", "2", "usb-c", "boxes", "box"]
texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join), min_size=1, max_size=60)


def asked(texts: list[str], slices: list[tuple[str, ...]] | None = None) -> Queries:
    ids = [f"q{i}" for i in range(len(texts))]
    return Queries(ids, texts, slices or [()] * len(texts), [None] * len(texts))


@settings(max_examples=80, deadline=None)
@given(texts, st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 5))
def test_groups_never_straddle_and_shares_are_not_exceeded(texts, valid, test, seed):
    parts = assign(asked(texts), SplitConfig(valid=valid, test=test, seed=seed))
    sides: dict[tuple, set[int]] = {}
    for text, part in zip(texts, parts.tolist(), strict=True):
        sides.setdefault(near_duplicate_key(text), set()).add(part)
    assert all(len(found) == 1 for found in sides.values())
    assert (parts == 1).sum() <= round(valid * len(texts))
    assert (parts == 2).sum() <= round(test * len(texts))
    assert (parts >= 0).all()


@settings(max_examples=30, deadline=None)
@given(texts, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(texts, random):
    shuffled = list(texts)
    random.shuffle(shuffled)
    config = SplitConfig(valid=0.2, test=0.3)
    parts = [dict(zip(one, assign(asked(one), config).tolist(), strict=True)) for one in (texts, shuffled)]
    assert parts[0] == parts[1]


def test_distinct_queries_fill_the_shares_exactly():
    texts = [f"thing{i}" for i in range(200)]
    parts = assign(asked(texts), SplitConfig(valid=0.1, test=0.2, seed=1))
    assert np.bincount(parts, minlength=3).tolist() == [140, 20, 40]
    assert not np.array_equal(parts, assign(asked(texts), SplitConfig(valid=0.1, test=0.2, seed=2)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Red Sofas", "sofa, red"),
        ("the best cables for TVs", "best cable tv"),
        ("batteries", "Battery"),
        ("usb usb cable", "USB cable"),
        ("ｗｉｄｅ lamp", "lamp wide"),
    ],
)
def test_near_duplicates(one, other):
    assert near_duplicate_key(one) == near_duplicate_key(other)


@pytest.mark.parametrize(("one", "other"), [("sofa", "sofa bed"), ("sofa without arms", "sofa arms"), ("a4", "a3")])
def test_not_near_duplicates(one, other):
    assert near_duplicate_key(one) != near_duplicate_key(other)


def test_fillers_alone_are_still_words():
    assert near_duplicate_key("for the") != near_duplicate_key("on")
    assert near_duplicate_key("glasses") == ("glass",)
    assert (stem("glass"), stem("bus"), stem("gas")) == ("glass", "bus", "gas")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    out = tmp_path_factory.mktemp("split") / "shop"
    synthesise(out, items=800, queries=250, seed=0)
    return out


def test_parts_are_whole_datasets(shop, tmp_path):
    result = split(shop, tmp_path / "parts", SplitConfig())
    whole = open_dataset(shop, TABLES)
    ids: list[str] = []
    judged = 0
    for part in PARTS:
        folder = tmp_path / "parts" / part
        assert validate(folder).ok
        data = open_dataset(folder, TABLES)
        assert len(data.queries) == result[part]
        assert data.queries.specs[0] is not None
        assert len(data.items) == 800
        assert set(data.pairs.query_rows.tolist()) == set(range(len(data.queries)))
        ids += data.queries.ids
        judged += len(data.judgments)
    assert sorted(ids) == sorted(whole.queries.ids)
    assert judged == len(whole.judgments)


def template_of(slices: tuple[str, ...]) -> str:
    return next(name for name in slices if name.startswith("template:"))


def test_held_out_templates_are_in_test_only(shop, tmp_path):
    split(shop, tmp_path / "parts", SplitConfig(by="template", test=0.25))
    seen = {}
    for part in PARTS:
        queries = open_dataset(tmp_path / "parts" / part).queries
        seen[part] = {template_of(slices) for slices in queries.slices}
        keys = {near_duplicate_key(text) for text in queries.texts}
        seen[part, "keys"] = keys
    assert seen["test"]
    assert not seen["test"] & (seen["train"] | seen["valid"])
    assert {name.split("/")[0] for name in seen["test"]} == {name.split("/")[0] for name in seen["train"]}
    assert not seen["test", "keys"] & (seen["train", "keys"] | seen["valid", "keys"])


def test_near_duplicates_of_held_out_queries_are_left_out():
    texts = ["red sofa", "sofa red", "lamp", "desk"]
    slices = [("template:plain/0",), ("template:plain/1",), ("template:plain/0",), ("template:plain/1",)]
    parts = assign(asked(texts, slices), SplitConfig(by="template", valid=0.0, test=0.5))
    held = parts[2] == 2
    assert parts.tolist() == ([2, -1, 2, 0] if held else [-1, 2, 0, 2])


def test_bad_input(shop, tmp_path):
    with pytest.raises(InputError, match="must stay below 1"):
        split(shop, tmp_path / "x", SplitConfig(valid=0.5, test=0.5))
    with pytest.raises(InputError, match="the input folder too"):
        split(shop, shop, SplitConfig())
    with pytest.raises(InputError, match=r"items\.parquet: the file is missing"):
        split(tmp_path, tmp_path / "x", SplitConfig())
    with pytest.raises(InputError, match=r"no slice 'template"):
        assign(asked(["a", "b"]), SplitConfig(by="template"))
    assert not (tmp_path / "x").exists()
