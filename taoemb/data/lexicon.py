"""Everyday shopping English (everyday.yaml): what means the same, other spellings, modifiers, units."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from taoemb.data.words import stem, tokens

Phrase = tuple[str, ...]  # stemmed words


@dataclass(frozen=True)
class Everyday:
    """The packaged word lists; phrases are stemmed for comparison, names stay as people write them."""

    same: dict[Phrase, tuple[Phrase, ...]]  # product phrase → every phrase for the same product
    names: dict[Phrase, tuple[str, ...]]  # product phrase → ways to write it
    spellings: dict[str, tuple[str, ...]]  # by tokens ("wi fi")
    modifiers: frozenset[str]
    endings: frozenset[str]
    vague: frozenset[Phrase]
    units: dict[str, tuple[str, ...]]


@cache
def everyday() -> Everyday:
    """The packaged word lists."""
    tree = yaml.safe_load(resources.files("taoemb.data").joinpath("everyday.yaml").read_text("utf-8"))
    same: dict[Phrase, tuple[Phrase, ...]] = {}
    names: dict[Phrase, tuple[str, ...]] = {}
    for group in tree["same"]:
        members = tuple(dict.fromkeys(map(phrase_of, group)))
        same.update(dict.fromkeys(members, members))
        names.update(dict.fromkeys(members, tuple(group)))
    return Everyday(
        same=same,
        names=names,
        spellings={" ".join(tokens(name)): tuple(group) for group in tree["spellings"] for name in group},
        modifiers=frozenset(tree["modifiers"]),
        endings=frozenset(tree["endings"]),
        vague=frozenset(map(phrase_of, tree["vague"])),
        units={unit: tuple(ways) for unit, ways in tree["units"].items()},
    )


def phrase_of(text: str) -> Phrase:
    """A phrase's words, stemmed ("Toner cartridges" → ("toner", "cartridge"))."""
    return tuple(stem(word) for word in text.casefold().split())


def class_of(phrase: Phrase) -> tuple[Phrase, ...]:
    """Every phrase for the same product, itself included."""
    return everyday().same.get(phrase, (phrase,))


def suffixes(phrases: Iterable[Phrase], longest: int) -> Iterable[Phrase]:
    """Endings of up to `longest` words of each phrase, the longest first."""
    for phrase in phrases:
        for length in range(min(longest, len(phrase)), 0, -1):
            yield phrase[-length:]
