"""True grades by query text agree with the oracle, and only texts of the shop are graded."""

from pathlib import Path

import numpy as np
import pytest

from taoemb.data.dataset import open_dataset
from taoemb.data.oracle import ShopView, grades
from taoemb.data.synth import synthesise
from taoemb.data.truth import Truth
from taoemb.errors import InputError


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    shop = tmp_path_factory.mktemp("truth") / "shop"
    synthesise(shop, items=200, queries=20, seed=5)
    return Truth(open_dataset(shop, need=("items", "queries")))


def test_grades_are_the_oracles(truth: Truth) -> None:
    view = ShopView(truth.data.items)
    for row, text in enumerate(truth.data.queries.texts):
        assert np.array_equal(truth.grades(text), grades(truth.data, row, view))


def test_items_by_id_and_by_title_are_the_same_items(truth: Truth) -> None:
    query = truth.data.queries.texts[3]
    ids, titles = truth.data.items.ids.to_pylist(), truth.data.items.column("title").to_pylist()
    by_title = [int(truth.grades(query)[truth.row_of_title(title)]) for title in titles]
    assert truth.of_items(query, ids) == by_title
    assert len(set(by_title)) > 1


@pytest.mark.parametrize("call", ["grades", "of_items", "row_of_title"])
def test_strangers_are_refused(truth: Truth, call: str) -> None:
    query = truth.data.queries.texts[0]
    with pytest.raises(InputError, match="can't be graded"):
        {
            "grades": lambda: truth.grades("nobody asks this"),
            "of_items": lambda: truth.of_items(query, ["nobody sells this"]),
            "row_of_title": lambda: truth.row_of_title("nobody sells this"),
        }[call]()


def test_other_datasets_are_refused(tmp_path: Path) -> None:
    from tests.retrieval.tiny_shop import shop, write_items

    with pytest.raises(InputError, match="department"):
        Truth(open_dataset(write_items(tmp_path / "shop", shop(10))))
