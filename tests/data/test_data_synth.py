"""The generated shop: broad, deterministic, graded by its stated rules, and not solvable by matching words."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from taoemb.data.dataset import Catalogue, Dataset, open_dataset
from taoemb.data.oracle import ShopView, grade, grades
from taoemb.data.shop_items import make_items
from taoemb.data.shop_queries import KIND_SHARES
from taoemb.data.synth import MAX_GOOD, synthesise
from taoemb.data.taxonomy import load_shop
from taoemb.data.validate import validate
from taoemb.data.words import stem, tokens
from taoemb.errors import InputError

TABLES = ("items", "queries", "pairs", "judgments")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "shop"
    synthesise(out, items=3000, queries=400, seed=3)
    return out


@pytest.fixture(scope="module")
def shop(root) -> Dataset:
    return open_dataset(root, TABLES)


def test_the_taxonomy_is_broad_and_typed():
    world = load_shop()
    assert len(world.departments) >= 12
    assert len(world.categories) >= 60
    assert set(world.templates) == set(KIND_SHARES)
    for category in world.categories.values():
        assert category.values
        assert category.features
        assert len(category.needs) >= 1
    assert all(department.occasions and len(department.brands) >= 3 for department in world.departments)


def test_the_folder_keeps_the_contract_and_has_every_kind(root, shop):
    report = validate(root)
    assert report.violations == []
    assert report.counts["items"] == 3000
    assert report.counts["queries"] == 400
    assert {kind: report.slices[kind] for kind in KIND_SHARES} == {
        kind: pytest.approx(share * 400, abs=1) for kind, share in KIND_SHARES.items()
    }
    assert all(any(name.startswith("template:") for name in slices) for slices in shop.queries.slices)
    assert all(any(name.startswith("category:") for name in slices) for slices in shop.queries.slices)
    assert len(set(shop.queries.texts)) == 400
    assert shop.items.signals == ("signal_rating", "signal_sales", "signal_satisfaction")


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    def digests(seed: int, name: str) -> list[str]:
        synthesise(tmp_path / name, items=300, queries=40, seed=seed)
        return [hashlib.sha256((tmp_path / name / f"{table}.parquet").read_bytes()).hexdigest() for table in TABLES]

    first = digests(1, "a")
    assert digests(1, "b") == first
    assert all(one != other for one, other in zip(digests(2, "c"), first, strict=True))


def test_judgments_and_clicks_are_what_the_oracle_says(shop):
    view = ShopView(shop.items)
    for row in range(0, len(shop.queries), 5):
        truth = grades(shop, row, view)
        mine = shop.judgments.query_rows == row
        judged = shop.judgments.item_rows[mine]
        assert np.array_equal(truth[judged], shop.judgments.grades[mine])
        good = np.flatnonzero(truth >= 3)
        assert len(np.intersect1d(good, judged)) == min(len(good), MAX_GOOD)
        clicked = shop.pairs.item_rows[shop.pairs.query_rows == row]
        assert len(clicked) > 0
        assert (truth[clicked] == 4).all()


def test_clicks_follow_popularity(shop):
    sales = shop.items.column("signal_sales").to_numpy()
    clicked = np.average(sales[shop.pairs.item_rows], weights=shop.pairs.weights)
    assert clicked > 1.3 * sales.mean()


def test_negations_are_lexical_traps(shop):
    """The word that is not wanted stands more often in the wrong items than in the right ones."""
    texts = [
        {stem(word) for word in tokens(f"{item['title']} {item['description']}")}
        for item in shop.items.records(np.arange(len(shop.items)))
    ]
    wrong, right = [], []
    for row, slices in enumerate(shop.queries.slices):
        spec = json.loads(shop.queries.specs[row])
        unwanted = [field for field, op, value in spec["targets"][0]["must"] if op == "=" and value == "no"]
        if slices[0] != "negation" or not unwanted:
            continue
        truth = grades(shop, row)
        inside = shop.items.column("category").to_numpy(zero_copy_only=False) == spec["targets"][0]["category"]
        said = set(map(stem, tokens(shop.queries.texts[row])))
        asked = said & {stem(word) for feature in unwanted for word in tokens(feature.replace("_", " "))}
        if asked:
            wrong += [bool(asked & texts[item]) for item in np.flatnonzero(inside & (truth == 2))]
            right += [bool(asked & texts[item]) for item in np.flatnonzero(truth == 4)]
    assert len(right) > 100
    assert np.mean(wrong) > np.mean(right)


def test_knowledge_queries_never_name_the_category(shop):
    world = load_shop()
    for slices, text, spec in zip(shop.queries.slices, shop.queries.texts, shop.queries.specs, strict=True):
        if slices[0] == "knowledge":
            categories = [world.categories[target["category"]] for target in json.loads(spec)["targets"]]
            assert not any(noun in text for category in categories for noun in category.nouns), text


def sofa(item_id: str, price: float, brand: str = "Norrvik", category: str = "Sofas", **attributes: str) -> dict:
    department = "Furniture" if category in ("Sofas", "Beds") else "Audio"
    return {
        "item_id": item_id,
        "title": item_id,
        "brand": brand,
        "category": category,
        "price": price,
        "department": department,
        "attributes": list(attributes.items()),
    }


GRADED = [
    ({"should": [["colour", "=", "red"]]}, [4, 2, 4, 2, 2, 1]),
    ({"should": [["colour", "=", "red"], ["arms", "=", "no"]]}, [4, 3, 3, 2, 2, 1]),
    ({"must": [["arms", "=", "no"]], "should": [["colour", "=", "red"]]}, [4, 3, 2, 2, 2, 1]),
    ({"must": [["arms", "=", "no"]]}, [4, 4, 2, 2, 2, 1]),
    ({"must": [["price", "<=", 200]]}, [4, 2, 4, 4, 2, 1]),
    ({"must": [["seats", ">=", 3.0]]}, [4, 2, 2, 2, 2, 1]),
    ({"must": [["brand", "!=", "Norrvik"]]}, [2, 4, 2, 2, 2, 1]),
    ({"must": [["item_id", "!=", "a"]], "should": [["colour", "=", "red"]]}, [2, 3, 4, 3, 2, 1]),
    ({}, [4, 4, 4, 4, 2, 1]),
]


@pytest.mark.parametrize(("target", "expected"), GRADED)
def test_grades_follow_the_stated_rules(target, expected):
    items = [
        sofa("a", 100, colour="red", arms="no", seats="3 seater"),
        sofa("b", 300, brand="Oakmere", colour="blue", arms="no", seats="2 seater"),
        sofa("c", 150, colour="red", arms="yes", seats="2 seater"),
        sofa("d", 150, colour="blue", arms="yes"),
        sofa("bed", 100, category="Beds", colour="red", arms="no", seats="5 seater"),
        sofa("speaker", 100, category="Soundbars", colour="red", arms="no", seats="5 seater"),
    ]
    schema = make_items(load_shop(), 1, np.random.default_rng(0)).schema
    table = pa.concat_tables([pa.Table.from_pylist([item], schema=schema) for item in items])  # a chunk an item
    spec = {"by": "shop", "targets": [{"category": "Sofas", "must": [], "should": [], **target}]}
    assert grade(ShopView(Catalogue(table)), spec).tolist() == expected


def test_several_targets_take_the_best_grade(shop):
    view = ShopView(shop.items)
    one, other = ({"category": name, "must": [], "should": []} for name in ("Sofas", "Drills"))
    both = grade(view, {"by": "shop", "targets": [one, other]})
    alone = [grade(view, {"by": "shop", "targets": [target]}) for target in (one, other)]
    assert np.array_equal(both, np.maximum(*alone))


def test_bad_input(tmp_path, shop):
    with pytest.raises(InputError, match="at least one item"):
        synthesise(tmp_path / "x", items=0, queries=1)
    with pytest.raises(InputError, match="ask for fewer queries"):
        synthesise(tmp_path / "x", items=3, queries=500)
    assert not (tmp_path / "x").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        synthesise(tmp_path / "mine", items=50, queries=1)
    with pytest.raises(InputError, match="not made by"):
        grade(ShopView(shop.items), {"by": "catalogue", "targets": []})
    with pytest.raises(InputError, match="no column 'department'"):
        ShopView(Catalogue(pa.table({"item_id": ["a"], "title": ["b"]})))
    assert list((tmp_path / "mine").iterdir()) == [tmp_path / "mine" / "thesis.txt"]


def test_writing_again_replaces_the_dataset(tmp_path):
    synthesise(tmp_path / "shop", items=200, queries=10, seed=0)
    result = synthesise(tmp_path / "shop", items=250, queries=12, seed=0)
    assert result["items"] == 250
    assert validate(tmp_path / "shop").counts["queries"] == 12
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]
