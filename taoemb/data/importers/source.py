"""What a reader of one format hands to the importers: the columns of a file, and its rows with their places."""

import reprlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

Row = Mapping[str, Any]


class SourceFile(Protocol):
    """One table of the user's own."""

    path: Path
    columns: tuple[str, ...]  # in the order of the file, repeated where the file repeats them
    nested: bool  # cells may be lists and objects

    def rows(self, wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        """Yield (place, row), with at least the `wanted` columns. Raises InputError where the file is broken."""

    def where(self, place: int) -> str:
        """File and place in words: "items.csv: line 3"."""

    def lines(self) -> int | None:
        """Lines of the file, once all rows are read; None for a format that has none."""

    def notes(self) -> list[str]:
        """What the user should know about the reading, once all rows are read."""


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlevel = 3


def shown(value: Any) -> str:
    """A value in an error message: never long, whatever it is."""
    return _short.repr(value)
