"""What one cell says: text, a number, a grade, or that nothing is known.

Read what can be read in one way only. A value that has two meanings (`1,234`) or none is refused with what settles it.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from taoemb.data.markup import plain

# Words that programs write for "missing", as they write them: NAN and Nat are brands.
_NONE = {"None", "none", "NONE"}
TEXT_NULLS = frozenset({"NaN", "nan", "-nan", "NULL", "null", "Null", "N/A", "n/a", "#N/A", "<NA>", "\\N"} | _NONE)
ATTRIBUTE_NULLS = TEXT_NULLS - _NONE  # "arms: none" says something
NUMBER_NULLS = TEXT_NULLS | {"NAN", "Nan", "NA", "na", "#NA", "#n/a", "-NaN", "NaT", "-"}
_NOTHING: frozenset[str] = frozenset()
FLOAT32_MAX = 3.4028235e38

_SIGN, _SPACES = r"[+-]?", " \u00a0\u202f'\u2019"
_PLAIN = re.compile(rf"{_SIGN}(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_GROUPS = rf"[1-9]\d{{0,2}}(?:([%s{_SPACES}])\d{{3}})(?:\1\d{{3}})*"
_DOT = re.compile(rf"{_SIGN}{_GROUPS % ','}(?:\.\d+)?")  # 1,234.5
_COMMA = re.compile(rf"{_SIGN}(?:{_GROUPS % '.'}(?:,\d+)?|\d+,\d+)")  # 1.234,5 and 12,5
_DOT_THOUSANDS = re.compile(rf"{_SIGN}[1-9]\d{{0,2}}\.\d{{3}}")  # 1.234, which a decimal comma would make 1234


class UnreadableError(ValueError):
    """A value is not what its field wants; `problem` follows the value, `remedy` may name {field} and {column}."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


@dataclass(frozen=True)
class Reading:
    """How cells are read."""

    null_words: tuple[str, ...] = ()  # read as missing in every column
    default_nulls: bool = True  # the lists above too
    decimal: str | None = None  # the decimal mark; None: what a value itself shows
    labels: dict[str, int] = field(default_factory=dict)  # what written grades mean; with any, nothing else is a grade
    raw_text: bool = False  # HTML stays in texts

    def shown(self, value: Any) -> Any:
        """Text without HTML, unless it is to stay; anything else as it is."""
        return plain(value) if isinstance(value, str) and not self.raw_text else value

    def is_null(self, value: Any, words: frozenset[str] = _NOTHING) -> bool:
        """Whether a value says that nothing is known; `words` are the list for its kind of column."""
        if value is None:
            return True
        if isinstance(value, str):
            word = value.strip()
            return word == "" or word in self.null_words or (self.default_nulls and word in words)
        return isinstance(value, float | Decimal) and value != value


def as_text(value: Any) -> str:
    """A scalar as trimmed text. Raises UnreadableError on lists, objects, booleans and what is not Unicode text."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise UnreadableError("is not UTF-8 text") from None
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise UnreadableError("is not Unicode text (half of a surrogate pair)") from None
        return value.strip()
    if isinstance(value, list) and len(value) == 1:
        return as_text(value[0])
    if isinstance(value, list):
        raise UnreadableError("is not text", "; take one entry with --map {field}={column}.0")
    if isinstance(value, dict):
        raise UnreadableError("is not text", "; take what is in it with --map {field}={column}.KEY")
    if isinstance(value, float) and not math.isfinite(value):
        raise UnreadableError("is not a finite number")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | date | time | timedelta | UUID):
        raise UnreadableError("is not text")
    return str(value)


def as_id(value: Any) -> str:
    """An id as text; whole numbers that pandas made floats (12.0) are whole again. Raises UnreadableError."""
    if isinstance(value, Decimal):
        whole = value.is_finite() and value == value.to_integral_value()
    elif isinstance(value, float):
        whole = value.is_integer() and abs(value) < 2**53
    else:
        return as_text(value)
    if not whole:
        raise UnreadableError("is no whole number", "; write ids as text")
    return str(int(value))


class Numbers:
    """Reads the numbers of one column. A column that uses decimal commas can't also mean 1.234 as a fraction."""

    def __init__(self, decimal: str | None, largest: float = math.inf, flags: bool = False) -> None:
        self.decimal, self.largest, self.flags = decimal, largest, flags
        self.comma: str | None = None  # a value seen with a decimal comma
        self.dot: str | None = None  # a value that a decimal comma would make another number

    def read(self, value: Any) -> float:
        """A finite float. Raises UnreadableError."""
        if isinstance(value, bool):
            if self.flags:
                return float(value)
            raise UnreadableError("is not a number")
        if not isinstance(value, int | float | Decimal | str):
            raise UnreadableError("is not a number")
        try:
            number = self._of_text(value.strip()) if isinstance(value, str) else float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise UnreadableError("is not a finite number")
        if abs(number) > self.largest:
            raise UnreadableError("is too large for a 32-bit float")
        return number

    def _of_text(self, text: str) -> float:
        by_dot, by_comma = _readings(text)
        if self.decimal is not None:
            number = by_comma if self.decimal == "," else by_dot
            if number is None:
                raise UnreadableError(f"is not a number with the decimal mark {self.decimal!r}")
            return number
        if by_dot is None and by_comma is None:
            raise UnreadableError("is not a number", "; if it means missing, say --null")
        if by_dot is None or by_comma is None or by_dot == by_comma:
            if by_dot is None:
                self.comma = self.comma or text
            number = by_dot if by_dot is not None else by_comma
        elif "," in text:
            raise UnreadableError("has two readings", "; say --decimal , or --decimal .")
        else:
            self.dot, number = self.dot or text, by_dot
        if self.comma and self.dot:
            other = self.dot if text == self.comma else self.comma
            raise UnreadableError(f"and {other!r} of the same column don't agree", "; say --decimal , or --decimal .")
        assert number is not None
        return number


def _readings(text: str) -> tuple[float | None, float | None]:
    """The number with a decimal point, and with a decimal comma; None where it is none."""
    if _PLAIN.fullmatch(text):
        number = float(text)
        if _DOT_THOUSANDS.fullmatch(text):
            return number, float(text.replace(".", ""))
        return number, None if "." in text else number
    bare = text.translate(_WITHOUT_SPACES)
    by_dot = float(bare.replace(",", "")) if _DOT.fullmatch(text) else None
    by_comma = float(bare.replace(".", "").replace(",", ".")) if _COMMA.fullmatch(text) else None
    return by_dot, by_comma


_WITHOUT_SPACES = {ord(character): None for character in _SPACES}


def as_grade(value: Any, reading: Reading) -> int:
    """A grade from 1 to 4; 4.0 is one. Raises UnreadableError."""
    if reading.labels:
        return _labelled(value, reading.labels)
    number = Numbers(reading.decimal).read(value)
    if number not in (1, 2, 3, 4):
        raise UnreadableError("is not a grade from 1 to 4", "; say what the file's own grades mean with --grade")
    return int(number)


def _labelled(value: Any, labels: dict[str, int]) -> int:
    said = str(value).strip()
    if said in labels:
        return labels[said]
    for label, grade in labels.items():
        if _PLAIN.fullmatch(said) and _PLAIN.fullmatch(label) and float(said) == float(label):
            return grade
    raise UnreadableError(f"is none of the labels of --grade ({', '.join(labels)})", "; say what it means as well")


class Tally:
    """Counts what was read in a way that one should know of, to be said at the end."""

    def __init__(self) -> None:
        self.nulls: dict[str, Counter[str]] = {}
        self.kept: dict[str, Counter[str]] = {}
        self.markup: Counter[str] = Counter()  # texts that HTML was taken out of

    def null(self, name: str, value: Any) -> None:
        """A word was read as missing."""
        if isinstance(value, str) and value.strip():
            self.nulls.setdefault(name, Counter())[value.strip()] += 1

    def kept_word(self, name: str, word: str) -> None:
        """A word that mostly means missing stands where something must be, and is kept."""
        self.kept.setdefault(name, Counter())[word] += 1

    def notes(self, table: str) -> list[str]:
        """In words, a line for each column."""
        said = [f"{table}, {name}: read as missing: {_words(words)}" for name, words in self.nulls.items()]
        said += [f"{table}, {name}: HTML taken out of {n:,} texts (--raw-text)" for name, n in self.markup.items() if n]
        return said + [
            f"{table}, {name}: words for missing, kept as text: {_words(words)}" for name, words in self.kept.items()
        ]


def _words(words: Counter[str]) -> str:
    said = ", ".join(f"{word!r} {count:,}" for word, count in words.most_common(4))
    return f"{words.total():,} ({said}{', …' if len(words) > 4 else ''})"
