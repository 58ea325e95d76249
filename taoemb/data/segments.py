"""Cuts texts into words without a dictionary, also where a script puts no spaces between them."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from taoemb.data.scripts import SPACELESS, marks
from taoemb.data.unspaced import LONGEST, Lexicon

_UNITS = (  # symbols are the same in every language
    *(
        "gb",
        "tb",
        "mb",
        "kb",
        "mm",
        "cm",
        "dm",
        "m",
        "km",
        "kg",
        "g",
        "mg",
        "l",
        "ml",
        "cl",
        "dl",
        "w",
        "kw",
        "v",
        "kv",
    ),
    *("va", "mah", "ah", "a", "hz", "khz", "mhz", "ghz", "lm", "k", "mp", "dpi", "db", "bar", "nm", "°c"),
    *("гб", "тб", "мб", "мм", "см", "м", "кг", "г", "л", "мл", "вт", "в", "мач", "гц"),
)
_SHORT = 30  # characters of a text whose words are kept
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_AMOUNT = re.compile(rf"\d+(?:[.,]\d+)?(?:{'|'.join(sorted(map(re.escape, _UNITS), key=len, reverse=True))})")


class Piece(NamedTuple):
    """A word of a text: how texts are compared by it, and where it stands."""

    key: str
    start: int
    end: int
    known: bool = True  # False: characters of a spaceless script that no word of the catalogue covers


def key_of(word: str) -> str:
    """What equal words have in common: case and width are not told apart."""
    return word.lower() if word.isascii() else unicodedata.normalize("NFKC", word).casefold()


def is_measure(key: str) -> bool:
    """Whether a word is a number with its unit ("16gb")."""
    return bool(_AMOUNT.fullmatch(key))


@cache
def pieces() -> re.Pattern[str]:
    """Runs of touching letters (group `touching`), and the words of scripts that have spaces."""
    letter = f"(?:[^\\W_{SPACELESS}]|(?![{SPACELESS}])[\u200c{marks()}])"
    inner = f"(?:[-'’](?={letter}){letter}+|(?<=\\d)[.,](?=\\d){letter}+)"
    return re.compile(f"(?P<touching>[{SPACELESS}]+)|{letter}+{inner}*")


def touching(texts: Iterable[str]) -> Iterable[str]:
    """Every run of letters of spaceless scripts in the texts."""
    return (found[0] for text in texts for found in pieces().finditer(text) if found["touching"])


def touches(text: str) -> bool:
    """Whether a text is one run of letters of a spaceless script."""
    found = pieces().fullmatch(text)
    return bool(found and found["touching"])


@dataclass
class Segmenter:
    """Reads the words of texts; those of spaceless scripts as `lexicon` knows them."""

    lexicon: Lexicon
    _seen: dict[str, tuple[tuple[int, int, bool], ...]] = field(default_factory=dict)
    _keys: dict[str, list[str]] = field(default_factory=dict)  # of short texts: attribute values are often the same

    def runs(self, text: str) -> list[list[Piece]]:
        """The words of a lowercase text, in runs that nothing but spaces (or nothing) interrupts."""
        runs: list[list[Piece]] = []
        last = None
        for found in pieces().finditer(text):
            start, end = found.span()
            if last is None or text[last:start].strip():
                runs.append([])
            last = end
            if found["touching"]:
                cut = self._cut(found[0])
                runs[-1] += [Piece(key_of(found[0][a:b]), start + a, start + b, known) for a, b, known in cut]
            else:
                runs[-1].append(Piece(key_of(found[0]), start, end))
        return [_with_units(run) for run in runs]

    def keys(self, text: str) -> list[str]:
        """Every distinct word of a text, as texts are compared by them."""
        if len(text) > _SHORT:
            return list(dict.fromkeys(piece.key for run in self.runs(text.lower()) for piece in run))
        if text not in self._keys:
            self._keys[text] = list(dict.fromkeys(piece.key for run in self.runs(text.lower()) for piece in run))
        return self._keys[text]

    def _cut(self, run: str) -> tuple[tuple[int, int, bool], ...]:
        """Where the words of a run stand, and whether each is known; a short run of its own is a word as well."""
        if run not in self._seen:
            cut = tuple(self.lexicon.cut(run))
            self._seen[run] = cut if len(cut) > 1 or len(run) > LONGEST else ((0, len(run), True),)
        return self._seen[run]


def _with_units(run: list[Piece]) -> list[Piece]:
    """Numbers and the units behind them as one word ("16 gb")."""
    joined: list[Piece] = []
    for piece in run:
        before = joined[-1] if joined else None
        if before and piece.key in _UNITS and _NUMBER.fullmatch(before.key):
            joined[-1] = Piece(before.key + piece.key, before.start, piece.end)
        else:
            joined.append(piece)
    return joined
