"""One pair with several grades: one rule, whatever the order of the rows, for everyone who reads judgments."""

from pathlib import Path
from statistics import median_low

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.data.dataset import open_dataset
from taoemb.data.grades import settle
from taoemb.evaluation.qrels import group
from taoemb.judge.graded import read_graded

graded = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 4)), max_size=30)


@settings(max_examples=300, deadline=None)
@given(graded, st.randoms())
def test_the_low_median_of_each_pair_whatever_the_order(rows, random):
    expected: dict[tuple[int, int], list[int]] = {}
    for query, item, grade in rows:
        expected.setdefault((query, item), []).append(grade)
    for _ in range(2):
        columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        found = settle(*columns)
        pairs = [(int(columns[0][row]), int(columns[1][row])) for row in found.first]
        assert len(set(pairs)) == len(pairs) == len(expected)
        assert dict(zip(pairs, found.grades.tolist(), strict=True)) == {
            pair: median_low(grades) for pair, grades in expected.items()
        }
        assert {pair for pair, differ in zip(pairs, found.conflicting, strict=True) if differ} == {
            pair for pair, grades in expected.items() if len(set(grades)) > 1
        }
        assert [pairs[pair] for pair in found.pair_of] == [(query, item) for query, item, _ in rows]
        random.shuffle(rows)


def shop(root: Path, judgments: list[tuple[str, str, int, str]]) -> Path:
    root.mkdir()
    pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["sofa", "lamp"]}), root / "items.parquet")
    pq.write_table(pa.table({"query_id": ["p", "q"], "text": ["sofa", "lamp"]}), root / "queries.parquet")
    columns = dict(zip(("query_id", "item_id", "grade", "source"), zip(*judgments, strict=True), strict=True))
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), root / "judgments.parquet")
    return root


ROWS = [("q", "a", 4, "ann"), ("p", "b", 2, "ann"), ("q", "a", 1, "bob"), ("q", "b", 3, "ann"), ("p", "b", 2, "bob")]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 3, 1, 0)])
def test_every_reader_takes_the_same_grade(tmp_path, order):
    root = shop(tmp_path / "d", [ROWS[place] for place in order])
    data = open_dataset(root, ("items", "queries", "judgments"))
    names = [
        (data.queries.ids[row], item)
        for row, item in zip(data.judgments.query_rows, data.judgments.item_rows, strict=True)
    ]
    assert dict(zip(names, data.judgments.grades.tolist(), strict=True)) == {("q", 0): 1, ("p", 1): 2, ("q", 1): 3}
    assert dict(zip(names, data.judgments.sources, strict=True))["q", 0] == "ann + bob"
    assert data.judgments.conflicting == 1
    assert group(data.judgments, np.array([0, 1])).grades.tolist() == [2, 1, 3]
    assert sorted(read_graded([root]).grades.tolist()) == [1, 2, 3]


def test_all_rows_are_there_for_those_who_want_them(tmp_path):
    data = open_dataset(shop(tmp_path / "d", ROWS), ("items", "queries", "judgments"), every_judgment=True)
    assert data.judgments.grades.tolist() == [4, 2, 1, 3, 2]
    assert data.judgments.of_source("bob").settled().grades.tolist() == [1, 2]
    assert data.judgments.settled().settled().conflicting == 1
