"""CSV read strictly: a stray quote can swallow many rows, and what is lost that way is lost without a word.

So a quote that is never closed, text after a closing quote and a cell that holds as many delimiters and line breaks as
whole rows are refused, each with the line where the quote opens. What is unambiguous is read: `sep=;` in the first
line, tabs and semicolons where the header makes sense with them alone, spaces around header names, empty rows.
"""

import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from taoemb.data.importers.decoding import text_lines
from taoemb.data.importers.source import Row
from taoemb.errors import InputError

Fits = Callable[[Sequence[str]], bool]
_CANDIDATES = (",", "\t", ";", "|")
_SEP = re.compile(r'\s*"?sep=(.)"?\s*', re.IGNORECASE)
_BREAK = re.compile(r"\r\n?|\n")
_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
_LOOK_EVERY = 1000  # lines of one record after which it is looked at before its end


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written."""

    encoding: str | None = None  # None: what its byte-order mark says, else UTF-8
    delimiter: str | None = None  # None: what `sep=` says, else a comma or what the header shows
    multiline: bool = False  # cells may hold as many delimiters and line breaks as whole rows


class CsvFile:
    """A CSV file with a header; `fits` says whether a header has the columns that are needed."""

    nested = False

    def __init__(self, path: Path, dialect: Dialect, fits: Fits) -> None:
        self.path, self.multiline = path, dialect.multiline
        self.empty_rows = self.broken_cells = 0
        self._number = self._width = 0
        self._kept: list[str] = []  # lines of the record that is being read
        self._lines = self._counted(text_lines(path, dialect.encoding))
        first = self._first()
        said = _SEP.fullmatch(first)
        if said:
            first = self._first()
        self.delimiter = dialect.delimiter or (said.group(1) if said else _delimiter(first, fits))
        header = _cells(first, self.delimiter)
        self._spaced = len(header) > 1 and all(cell.startswith(" ") for cell in header[1:])
        self._records = self._read(first)
        self.columns = tuple(name.strip() for name in next(self._records)[1])

    def rows(self, wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        """Yield (line, row); rows whose cells are all empty are left out and counted."""
        for line, cells in self._records:
            if not any(map(str.strip, cells)):
                self.empty_rows += 1
                continue
            if len(cells) != self._width:
                raise InputError(
                    f"{self.where(line)}: has more or fewer cells than the header ({len(cells)}, not {self._width}, "
                    f"with {self.delimiter!r} between them)"
                )
            yield line, dict(zip(self.columns, cells, strict=True))

    def where(self, place: int) -> str:
        """File and line."""
        return f"{self.path}: line {place}"

    def lines(self) -> int:
        """Lines read so far."""
        return self._number

    def notes(self) -> list[str]:
        """Rows and cells that one may not expect."""
        said = [(self.empty_rows, "empty rows are left out"), (self.broken_cells, "cells hold line breaks")]
        return [f"{self.path.name}: {count:,} {what}" for count, what in said if count]

    def _counted(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            self._number += 1
            self._kept.append(line)
            if "\0" in line:
                raise InputError(f"{self.where(self._number)}: holds a NUL byte, so it is no CSV text")
            if len(self._kept) % _LOOK_EVERY == 0:
                self._refuse_rows_in_a_cell("".join(self._kept), self._start())
            yield line

    def _first(self) -> str:
        """The next line that is not blank."""
        for line in self._lines:
            if line.strip():
                self._kept = [line]
                return line
        raise InputError(f"{self.path}: holds no rows")

    def _start(self) -> int:
        """Line where the record begins that is being read."""
        return self._number - len(self._kept) + 1

    def _read(self, first: str) -> Iterator[tuple[int, list[str]]]:
        """Yield (line where it begins, cells) of each record, the header first."""
        lines = chain([first], self._lines)
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=self._spaced)
        while True:
            try:
                cells = next(reader, None)
            except csv.Error:
                raise self._bad_quote() from None
            if cells is None:
                return
            self._width = self._width or len(cells)
            line = self._start()
            if len(self._kept) > 1:
                self._check_breaks(cells, line)
            self._kept.clear()
            yield line, cells

    def _check_breaks(self, cells: list[str], line: int) -> None:
        for cell in cells:
            breaks = len(_BREAK.findall(cell))
            if breaks:
                self.broken_cells += 1
                self._refuse_rows_in_a_cell(cell, line)
            line += breaks

    def _refuse_rows_in_a_cell(self, cell: str, line: int) -> None:
        """Refuse a cell that could be whole rows: each line break brings as many delimiters as a row has."""
        full = sum(1 for part in _BREAK.split(cell)[1:] if part.strip())
        held = cell.count(self.delimiter)
        if self.multiline or self._width < 2 or full == 0 or held < full * (self._width - 1):
            return
        raise InputError(
            f"{self.where(line)}: a quoted cell that opens here holds {full} line breaks and {held} "
            f"{self.delimiter!r}, as whole rows do: mend its quote, or say --multiline if the cell is meant so"
        )

    def _bad_quote(self) -> InputError:
        """What is wrong with the quotes of the record that is being read."""
        text, mark = "".join(self._kept), re.escape(self.delimiter)
        space = " *" if self._spaced else ""
        sound = re.compile(rf'{space}(?:{_QUOTED.pattern}|(?![ "])[^{mark}\r\n]*|)(?:{mark}|\r\n?|\n|\Z)')
        at = 0
        while at < len(text) and (cell := sound.match(text, at)):
            at = cell.end()
        opening = text.find('"', at)
        opened = self._start() + len(_BREAK.findall(text, 0, opening))
        closed = _QUOTED.match(text, opening)
        twice = 'a quote inside a cell is written twice ("")'
        if closed is None:
            return InputError(f"{self.where(opened)}: a quote opens here and is never closed; close it ({twice})")
        line = self._start() + len(_BREAK.findall(text, 0, closed.end()))
        return InputError(
            f"{self.where(line)}: text after the quote that closes the cell opened in line {opened}; mend it ({twice})"
        )


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line that is a record of its own; none where its quotes are not."""
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _delimiter(header: str, fits: Fits) -> str:
    """A comma, unless the header has the columns that are needed with exactly one of the others."""
    found = [mark for mark in _CANDIDATES if fits([name.strip() for name in _cells(header, mark)])]
    return found[0] if found and (found[0] == "," or len(found) == 1) else ","
