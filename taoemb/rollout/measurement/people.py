"""Human grades of pages drawn by hash: which pages, and what people said.

People can correct a judge only where chance, not convenience, chose the pages: pages that happen to have judgments are
old ones, and new items of the candidate would be missing among them.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from taoemb.errors import InputError
from taoemb.rollout.measurement.slicing import same_query
from taoemb.serving.assignment import place

_HIGHEST = 3.0  # grades 1 … 4 are relevance 0 … 1


def is_asked(salt: str, unit: str, share: float) -> bool:
    """Whether people are asked about a graded unit's page: with probability `share`, whatever is on it."""
    return place(f"{salt}:people", unit) < 100 * share


class People:
    """Human judgments of a dataset folder, read again when its file changes.

    Raises InputError when the folder has none, or breaks the contract of datasets.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: tuple[int, int] | None = None
        self._grades: dict[tuple[str, str], list[int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in judgments that came since."""
        from taoemb.data.dataset import open_dataset

        try:
            stat = (self._folder / "judgments.parquet").stat()
        except OSError as error:
            raise InputError(f"plan: human: {self._folder}: no judgments.parquet ({error.strerror})") from None
        if (stat.st_mtime_ns, stat.st_size) == self._stamp:
            return
        data = open_dataset(self._folder, need=("items", "queries", "judgments"), every_judgment=True)
        assert data.judgments is not None
        texts = [same_query(text) for text in data.queries.texts]
        grades = defaultdict(list)
        items = data.items.ids_of(data.judgments.item_rows)
        for query_row, item, grade in zip(data.judgments.query_rows, items, data.judgments.grades, strict=True):
            grades[texts[query_row], item].append(int(grade))
        self._grades, self._stamp = grades, (stat.st_mtime_ns, stat.st_size)

    def relevance(self, query: str, items: Iterable[str]) -> list[float] | None:
        """In [0, 1] of each item from the top, the mean over people; None while one of them has no grade."""
        found = [self._grades.get((same_query(query), item)) for item in items]
        known = [grades for grades in found if grades is not None]
        if len(known) < len(found):
            return None
        return [(sum(grades) / len(grades) - 1) / _HIGHEST for grades in known]
