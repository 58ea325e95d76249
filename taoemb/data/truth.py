"""True grades of a generated shop by query text: for simulated shoppers, and for a judge that is always right."""

from collections.abc import Sequence

import numpy as np

from taoemb.data.dataset import Dataset
from taoemb.data.oracle import ShopView, grades
from taoemb.errors import InputError


class Truth:
    """Grades of any (query, item) of a shop made by `taoemb data synth`; each query is graded once and remembered.

    Raises InputError when the dataset is another kind.
    """

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self._view = ShopView(data.items)
        self._row_of_query = {text: row for row, text in enumerate(data.queries.texts)}
        self._row_of_title = {title: row for row, title in enumerate(data.items.column("title").to_pylist())}
        self._row_of_item = {item: row for row, item in enumerate(data.items.ids.to_pylist())}
        self._known: dict[str, np.ndarray] = {}

    def grades(self, query: str) -> np.ndarray:
        """Grade of every item, (items,) int8. Raises InputError for a query that is none of the shop's."""
        if query not in self._known:
            if query not in self._row_of_query:
                raise InputError(f"{self.data.root}: {query!r} is no query of this shop; it can't be graded")
            self._known[query] = grades(self.data, self._row_of_query[query], self._view)
        return self._known[query]

    def of_items(self, query: str, item_ids: Sequence[str]) -> list[int]:
        """Grades of items by id. Raises InputError for an item that is none of the shop's."""
        found = self.grades(query)
        return [int(found[self._row(self._row_of_item, item)]) for item in item_ids]

    def row_of_title(self, title: str) -> int:
        """The item with that title (titles of a generated shop are distinct). Raises InputError when there is none."""
        return self._row(self._row_of_title, title)

    def _row(self, rows: dict[str, int], name: str) -> int:
        if name not in rows:
            raise InputError(f"{self.data.root}: {name!r} is no item of this shop; it can't be graded")
        return rows[name]
