"""Grades any (query, item) of a generated shop from the query's spec and the item's attributes: the ground truth.

A spec is JSON: {"by": "shop", "targets": [{"category": …, "must": [[field, op, value], …], "should": […]}]}. A field
is `price`, `brand`, `item_id` or an attribute; an operator is one of = != <= >=. For each target

- 4 Excellent: the category, every `must` and every `should` hold;
- 3 Related: the category and every `must` hold, exactly one `should` is missed, and there are at least two constraints;
- 2 Mismatch: the category with anything else wrong (a violated negation, too dear, the wrong kind), or its department;
- 1 Irrelevant: everything else;

and an item's grade is its best over the targets. An item that does not say (no such attribute) fails a constraint.
"""

import json
import operator
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taoemb.data.dataset import Catalogue, Dataset
from taoemb.errors import InputError

_COMPARE = {"=": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge}


class ShopView:
    """A generated shop's catalogue as arrays that constraints are checked on; made once, then grading is fast."""

    def __init__(self, items: Catalogue) -> None:
        if "department" not in items.columns:
            raise InputError(
                "items.parquet has no column 'department': only a shop made by `taoemb data synth` can be graded"
            )
        self.items = items
        self._known: dict[str, tuple[np.ndarray, list[str]]] = {}
        self._rows: dict[tuple[str, str], np.ndarray] = {}

    def rows(self, column: str, value: str) -> np.ndarray:
        """Rows where `category` or `department` is `value`, ascending."""
        if (column, value) not in self._rows:
            self._rows[column, value] = np.flatnonzero(pc.equal(self.items.column(column), value).to_numpy())
        return self._rows[column, value]

    def department_of(self, category: str) -> str | None:
        """The department of a category; None when it has no items."""
        rows = self.rows("category", category)
        return self.items.column("department")[int(rows[0])].as_py() if len(rows) else None

    @cached_property
    def prices(self) -> np.ndarray:
        """Prices, NaN where unknown."""
        return pc.fill_null(self.items.column("price"), float("nan")).to_numpy()

    def holds(self, rows: np.ndarray, field: str, op: str, value: Any) -> np.ndarray:
        """Whether each of the rows meets one constraint (bool, as long as `rows`)."""
        if field == "item_id":
            return _COMPARE[op](rows, self.items.rows_of([value])[0])
        if field == "price":
            return _COMPARE[op](self.prices[rows], value)
        codes, words = self._coded(field)
        if isinstance(value, str):
            passed = np.array([_COMPARE[op](word, value) for word in words], dtype=bool)
        else:
            passed = np.array([_COMPARE[op](number_in(word), value) for word in words], dtype=bool)
        return np.append(passed, False)[codes[rows]]  # code -1: the item does not say

    def _coded(self, field: str) -> tuple[np.ndarray, list[str]]:
        """A text field as codes into its distinct values; -1 where an item lacks it."""
        if field not in self._known:
            if field == "brand":
                encoded = pc.dictionary_encode(self.items.column("brand")).unify_dictionaries().combine_chunks()
                codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
                self._known[field] = (codes, encoded.dictionary.to_pylist())
            else:
                keys, values, owners = self._entries
                here = pc.equal(keys, field).to_numpy(zero_copy_only=False)
                encoded = values.filter(pa.array(here)).dictionary_encode()
                codes = np.full(len(self.items), -1, dtype=np.int32)
                codes[owners[here]] = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
                self._known[field] = (codes, encoded.dictionary.to_pylist())
        return self._known[field]

    @cached_property
    def _entries(self) -> tuple[pa.Array, pa.Array, np.ndarray]:
        """All attribute names and values in one list each, and the row each belongs to."""
        chunks = [chunk for chunk in self.items.column("attributes").chunks if len(chunk)]
        lengths = np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in chunks])
        keys = pa.concat_arrays([_span(chunk, chunk.keys) for chunk in chunks])
        values = pa.concat_arrays([_span(chunk, chunk.items) for chunk in chunks])
        return keys, values, np.repeat(np.arange(len(lengths)), lengths)


def _span(maps: pa.MapArray, values: pa.Array) -> pa.Array:
    start, end = maps.offsets[0].as_py(), maps.offsets[-1].as_py()
    return values.slice(start, end - start)


def number_in(text: str) -> float:
    """The number that an attribute's value starts with ("1.4 kg" → 1.4); NaN when it starts with none."""
    head = text.split(" ", 1)[0]
    try:
        return float(head)
    except ValueError:
        return float("nan")


def grade(view: ShopView, spec: Mapping[str, Any] | str) -> np.ndarray:
    """Grade every item for a spec by the rules above: int8, one an item. Raises InputError on another kind of spec."""
    parsed = json.loads(spec) if isinstance(spec, str) else spec
    if parsed.get("by") != "shop":
        raise InputError("the query's spec was not made by `taoemb data synth`; only those can be graded")
    grades = np.ones(len(view.items), dtype=np.int8)
    for target in parsed["targets"]:
        department = view.department_of(target["category"])
        if department is None:
            continue
        near = view.rows("department", department)
        grades[near] = np.maximum(grades[near], 2)
        rows = view.rows("category", target["category"])
        grades[rows] = np.maximum(grades[rows], _grade_in_category(view, rows, target))
    return grades


def _grade_in_category(view: ShopView, rows: np.ndarray, target: Mapping[str, Any]) -> np.ndarray:
    must = np.ones(len(rows), dtype=bool)
    for constraint in target["must"]:
        must &= view.holds(rows, *constraint)
    missed = np.zeros(len(rows), dtype=np.int8)
    for constraint in target["should"]:
        missed += ~view.holds(rows, *constraint)
    related = must & (missed == 1) & (len(target["must"]) + len(target["should"]) >= 2)
    return np.where(must & (missed == 0), 4, np.where(related, 3, 2)).astype(np.int8)


def grades(dataset: Dataset, query_row: int, view: ShopView | None = None) -> np.ndarray:
    """Grade every item of a generated shop for one of its queries (int8, n_items). Pass a `view` when grading many."""
    spec = dataset.queries.specs[query_row]
    if spec is None:
        raise InputError(f"{dataset.root}: query {dataset.queries.ids[query_row]} has no spec to grade by")
    return grade(ShopView(dataset.items) if view is None else view, spec)
