"""Reading, dividing and choosing graded pairs."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.errors import InputError
from taoemb.judge.graded import choose_evenly, hold_out, part_of, read_graded
from taoemb.judge.prompt import item_text
from tests.judge.graded_shop import colour_shop, write_dataset

ITEM = {"title": "a thing"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return read_graded([colour_shop(folder / "one"), colour_shop(folder / "two", source="human")])


def test_texts_are_those_a_client_sends(pairs):
    queries, items = pairs.take(np.array([25, 576])).texts(64)
    assert queries == ["blue chair", "red chair"]
    record = {"title": "chair 1", "price": 6.0, "attributes": {"colour": "blue"}, "description": "a chair"}
    assert items[0] == item_text(record, 64)


def test_equal_queries_of_two_folders_stay_on_one_side(pairs):
    train, held = hold_out(pairs, 0.2, seed=0)
    assert len(train) + len(held) == len(pairs) == 1152
    assert not set(train.groups) & set(held.groups)
    assert len(set(held.groups)) == 5
    assert set(held.dataset_of) == {0, 1}


def test_near_duplicates_share_a_group(tmp_path):
    queries = [(text, ()) for text in ("red chairs", "Chair, red", "the red chair", "blue chair")]
    data = write_dataset(tmp_path / "d", queries, [ITEM], [(q, 0, 1 + q, "") for q in range(4)])
    pairs = read_graded([data])
    assert len(set(pairs.groups[:3])) == 1
    assert pairs.groups[3] != pairs.groups[0]
    assert set(pairs.sources) == {"unnamed"}


@settings(max_examples=20, deadline=None)
@given(parts=st.integers(1, 4), seed=st.integers(0, 99))
def test_parts_share_no_query_and_cover_all(pairs, parts, seed):
    divided = [part_of(pairs, 1 / parts, part) for part in range(parts)]
    groups = [set(part.groups) for part in divided]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 24
    for part in divided:
        train, held = hold_out(part, 0.5, seed)
        assert len(train) + len(held) == len(part)


def test_parts_do_not_depend_on_other_data(pairs):
    alone = read_graded([pairs.datasets[0].root])
    keys = [{p.group_keys[group] for group in part_of(p, 0.5, 1).groups} for p in (alone, pairs)]
    assert keys[0] == keys[1]


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 1200), seed=st.integers(0, 99))
def test_chosen_pairs_are_even_over_queries_and_grades(pairs, count, seed):
    chosen = choose_evenly(pairs, count, seed)
    assert len(chosen) == min(count, 1152)
    stacked = np.stack([chosen.dataset_of, chosen.query_rows, chosen.item_rows])
    assert len(np.unique(stacked, axis=1).T) == len(chosen)
    per_query = Counter(chosen.query_numbers.tolist()) if count >= 48 else Counter(dict.fromkeys(range(48), 0))
    assert max(per_query.values()) - min(per_query.values()) <= 1


def test_chosen_grades_alternate_while_a_query_has_them(pairs):
    chosen = choose_evenly(pairs, 48 * 4, seed=3)  # a query has 1 item of grade 4, 3 of grade 3, 5 of grade 2
    assert Counter(chosen.grades.tolist()) == dict.fromkeys((1, 2, 3, 4), 48)


def test_bad_input_names_what_is_wrong(tmp_path, pairs):
    with pytest.raises(InputError, match="--data"):
        read_graded([])
    with pytest.raises(InputError, match=r"judgments\.parquet"):
        read_graded([write_dataset(tmp_path / "none", [("a", ())], [ITEM], [])])
    one_query = read_graded(
        [write_dataset(tmp_path / "one", [("a", ())], [ITEM, ITEM], [(0, 0, 1, ""), (0, 1, 4, "")])]
    )
    with pytest.raises(InputError, match="only 1 graded query"):
        hold_out(one_query, 0.1, 0)
    with pytest.raises(InputError, match="parts 0 to 1 exist"):
        part_of(pairs, 0.5, 2)


def test_a_part_without_a_query_is_refused(tmp_path):
    pairs = read_graded([write_dataset(tmp_path / "one", [("a", ())], [ITEM], [(0, 0, 1, "")])])
    empty = 0
    for part in range(10):
        try:
            assert len(part_of(pairs, 0.1, part)) == 1
        except InputError as error:
            assert "query_share" in str(error)  # noqa: PT017 - nine of ten parts raise, which ones is a hash's choice
            empty += 1
    assert empty == 9
