"""JSON Lines, or one array of objects; read twice, since a key may first appear in any row."""

import json
import re
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from taoemb.data.importers.decoding import text_lines
from taoemb.data.importers.source import Row
from taoemb.errors import InputError

_SPACE = re.compile(r"[ \t\r\n]*")


class JsonFile:
    """A file with one JSON object a line, or with one JSON array of objects."""

    nested = True

    def __init__(self, path: Path, encoding: str | None) -> None:
        self.path, self.encoding = path, encoding
        self._lines = 0
        self._starts = array("q")  # line where each entry of an array begins
        start = next((line for line in text_lines(path, encoding, "\n") if line.strip()), "")
        self._array = start.lstrip().startswith("[")
        found: dict[str, None] = {}
        for _, row in self._objects():
            found |= dict.fromkeys(row)
        if not found:
            raise InputError(f"{path}: holds no rows")
        self.columns = tuple(found)

    def rows(self, wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        """Yield (line, or number of the entry of an array; row)."""
        return self._objects()

    def where(self, place: int) -> str:
        """File and line, for an array the entry (from 1) and the line where it begins."""
        return f"{self.path}: " + (
            f"entry {place} (line {self._starts[place - 1]})" if self._array else f"line {place}"
        )

    def lines(self) -> int:
        """Lines read so far."""
        return self._lines

    def notes(self) -> list[str]:
        """Nothing: what is not plain is refused."""
        return []

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for place, row in self._entries() if self._array else self._records():
            if not isinstance(row, dict):
                raise InputError(f"{self.where(place)} is not a JSON object")
            yield place, row

    def _records(self) -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(text_lines(self.path, self.encoding, "\n"), 1):
            self._lines = number
            if line.strip():
                yield number, self._parsed(line, 0, number)[0]

    def _entries(self) -> Iterator[tuple[int, Any]]:
        """The entries of the array; the file is held as text, its entries one by one."""
        text = "".join(text_lines(self.path, self.encoding, "\n"))
        self._lines = text.count("\n") + (not text.endswith("\n"))
        self._starts = array("q")
        at, line = text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
        while True:
            start = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches anything
            line += text.count("\n", at, start)
            if text.startswith("]", start) and not self._starts:
                end = start
                break
            self._starts.append(line)
            value, stop = self._parsed(text, start, line)
            yield len(self._starts), value
            end = _SPACE.match(text, stop).end()  # type: ignore[union-attr]
            line += text.count("\n", start, end)
            if text[end : end + 1] not in {",", "]"}:
                raise InputError(f"{self.path}: line {line}: is not JSON (expected ',' or ']' after an entry)")
            at = end + 1
            if text[end] == "]":
                break
        if text[end + 1 :].strip():
            raise InputError(
                f"{self.path}: line {line}: something follows the array; give one array, or one object a line"
            )

    def _parsed(self, text: str, at: int, line: int) -> tuple[Any, int]:
        """The value that begins at `at`, and where it ends; a line holds nothing else."""
        try:
            if self._array:
                return strict_json.raw_decode(text, at)
            return strict_json.decode(text), len(text)
        except RecursionError:
            raise InputError(f"{self.path}: line {line}: is nested too deep") from None
        except json.JSONDecodeError as error:
            there = line + text.count("\n", at, error.pos) if self._array else line
            hint = "" if self._array else "; expected one object a line, or an array of objects"
            raise InputError(
                f"{self.path}: line {there} is not JSON ({error.msg}, column {error.colno}){hint}"
            ) from None
        except ValueError as error:
            raise InputError(f"{self.path}: line {line} is not JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


# Refuses an object with a key that stands twice.
strict_json = json.JSONDecoder(object_pairs_hook=_unique)
