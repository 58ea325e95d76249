"""Titles of a catalogue in any language, cut into words, and what else of an item its queries may say."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from taoemb.data.language import Language
from taoemb.data.lexicon import Phrase
from taoemb.data.scripts import HAN, script_of
from taoemb.data.segments import Piece, Segmenter, key_of, touches, touching
from taoemb.data.unspaced import find_lexicon

_DESCRIBED = 200  # characters of a description that are read
_ANSWERS = frozenset(["true", "false", "yes", "no"])
_PARTS, _LEVELS = re.compile(r"[,;/、，；،\n]"), re.compile(r"[>/|›»＞]")
_EDGES = ".,;:()[]\"'®™*+!?–—「」【】（） "
_LONGEST_VALUE, _LONGEST_CATEGORY = 30, 40  # characters


@dataclass(frozen=True)
class Title:
    """A title in lower case, its words in runs, those among which its type is, and what else the item says."""

    text: str
    runs: list[list[Piece]]
    front: frozenset[str]
    script: str | None
    brand: str | None  # lower case
    brand_keys: frozenset[str]
    category: str | None  # its last level, lower case
    category_key: Phrase  # its words
    values: dict[str, str]  # attribute values: as compared → as written, lower case
    others: frozenset[str]  # words of brand, category, values and the description's beginning

    def pieces(self) -> Iterator[Piece]:
        return (piece for run in self.runs for piece in run)

    def keys(self) -> frozenset[str]:
        return frozenset(piece.key for piece in self.pieces())

    def find(self, keys: Sequence[str]) -> tuple[int, int] | None:
        """Where the words stand together."""
        for run in self.runs:
            for start in range(len(run) - len(keys) + 1):
                if all(piece.key == key for piece, key in zip(run[start:], keys, strict=False)):
                    return run[start].start, run[start + len(keys) - 1].end
        return None


def read_titles(records: Sequence[Mapping[str, Any]], language: Language) -> tuple[list[Title], Segmenter]:
    """Every record's title, and what cuts texts into words."""
    function = language.function_words()
    texts = [record["title"].lower() for record in records]
    given = {text for record in records for text in _known(record) if touches(text)}
    segmenter = Segmenter(find_lexicon(list(touching(texts)), given, function))
    keys = frozenset(map(key_of, function))
    return [_read(record, segmenter, keys, language.postpositions) for record in records], segmenter


def is_word(piece: Piece, function: frozenset[str]) -> bool:
    """Whether a piece of a title is a word of letters that may stand alone."""
    return piece.known and piece.key not in function and _has_letters_alone(piece.key)


@cache
def _has_letters_alone(key: str) -> bool:
    letters = sum(letter.isalpha() for letter in key)
    return (letters > 1 or (letters == 1 and script_of(key) == HAN)) and not any(map(str.isdigit, key))


def _known(record: Mapping[str, Any]) -> Iterator[str]:
    """Texts that are words or names by where they stand, lower case."""
    if record.get("brand"):
        yield record["brand"].strip().lower()
    if record.get("category"):
        yield leaf(record["category"])
    yield from _values(record)


def leaf(category: str) -> str:
    """The last level of a category's path, lower case."""
    return _LEVELS.split(category.strip().rstrip(">/|›»＞ "))[-1].strip().lower()


def _values(record: Mapping[str, Any]) -> Iterator[str]:
    for value in record["attributes"].values():
        if len(value) <= _LONGEST_VALUE and not value[:1].isdigit():
            yield from filter(None, (part.strip() for part in _PARTS.split(value.lower())))


def _read(record: Mapping[str, Any], segmenter: Segmenter, function: frozenset[str], postpositions: bool) -> Title:
    text = record["title"].lower()
    runs = segmenter.runs(text)
    brand = (record.get("brand") or "").strip().lower()
    brand_keys = {*segmenter.keys(brand), key_of(brand)} if brand else set()
    category = leaf(record["category"]) if record.get("category") else ""
    if len(category) > _LONGEST_CATEGORY or any(map(str.isdigit, category)):
        category = ""
    values = {}
    for part in _values(record):
        keys = segmenter.keys(part)
        if part not in _ANSWERS and 0 < len(keys) <= 3 and not any(" " in key for key in keys):
            values[" ".join(keys)] = part.strip(_EDGES)
    others = {*brand_keys, *segmenter.keys(category), *(key for keys in values for key in keys.split())}
    others |= set(segmenter.keys((record.get("description") or "")[:_DESCRIBED]))
    return Title(
        text,
        runs,
        _front([piece.key for run in runs for piece in run], function, postpositions),
        script_of(text),
        brand or None,
        frozenset(brand_keys),
        _words_only(category, segmenter) or None,
        tuple(segmenter.keys(category)),
        values,
        frozenset(others),
    )


def _words_only(text: str, segmenter: Segmenter) -> str:
    """A text from its first word to its last."""
    pieces = [piece for run in segmenter.runs(text) for piece in run]
    return text[pieces[0].start : pieces[-1].end] if pieces else ""


def _front(keys: Iterable[str], function: frozenset[str], postpositions: bool) -> frozenset[str]:
    """The words before the first function word that any stand before: what follows "for" or "with" is no product."""
    front: list[str] = []
    for key in keys:
        if key not in function:
            front.append(key)
        elif front and not postpositions:
            break
    return frozenset(front)
