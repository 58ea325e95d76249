"""How much of a page the word-matching route finds anyway: the online side of the exclusivity reward."""

from pathlib import Path

from taoemb.data.dataset import open_dataset
from taoemb.retrieval.bm25 import BM25Route
from taoemb.rollout.measurement.page_metrics import overlap
from taoemb.serving.events.rows import Page


class WordRoute:
    """bm25_overlap of pages against a catalogue; built once (reads the whole catalogue). Raises InputError."""

    def __init__(self, catalogue: Path, depth: int) -> None:
        self._items = open_dataset(catalogue).items
        self._route = BM25Route(self._items, depth)
        self._known: dict[str, frozenset[str]] = {}
        self._depth = depth

    def __call__(self, page: Page) -> float:
        """The share in [0, 1] of the page's top items that BM25 has in its own top of the same depth."""
        route = self._known.get(page.query)
        if route is None:
            rows = self._route.top([page.query])[0]
            route = self._known[page.query] = frozenset(self._items.ids_of(rows[rows >= 0]))
        return overlap([str(item["item_id"]) for item in (page.items or ())[: self._depth]], route)
