"""Writes queries as people type them, each from one item of a catalogue, with the facets that it asks for.

Short, lowercase, a product word most of the time: "xerox toner black", "usb cable 2 m", "laserjet p4015tn", "notebook
without bluetooth". The anchor item answers the query, so every query has at least one Excellent item.
"""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from taoemb.data.facets import Facet, title_words
from taoemb.data.lexicon import Phrase, everyday
from taoemb.data.mining import Item, Mined
from taoemb.data.scripts import is_latin
from taoemb.data.words import stem, tokens

_TYPES_EVENLY = 0.5  # a type is drawn by its number of items to this power: rarer products are asked for as well
MIN_ITEMS = 4  # a type or a measure of fewer items is nothing that people ask for
_ANY_ITEM = 0.15  # share of anchors drawn from all items, also those whose type is not known


@dataclass(frozen=True)
class Asked:
    """A query and what it asks for: `soft` facets may be missed one at a time, `hard` ones not at all."""

    text: str
    kind: str
    anchor: int  # row of the item it was made from
    type: Phrase | None
    soft: tuple[Facet, ...]
    hard: tuple[Facet, ...]


@dataclass
class _Draft:
    item: Item
    type: Phrase | None = None
    soft: list[Facet] = field(default_factory=list)
    hard: list[Facet] = field(default_factory=list)


class NoFit(Exception):
    """The item has nothing to make this kind of query from."""


class Anchors:
    """Draws the items that queries are made from: rarer types more evenly, and any item now and then."""

    def __init__(self, items: Sequence[Item]) -> None:
        main = Counter(item.types[0] for item in items if item.types)
        self.count = len(items)
        self.types = sorted(main)
        counts = np.array([float(main[phrase]) for phrase in self.types])
        self.share = counts**_TYPES_EVENLY / (counts**_TYPES_EVENLY).sum() if len(counts) else counts
        self.members: dict[Phrase, list[int]] = {phrase: [] for phrase in self.types}
        for row, item in enumerate(items):
            if item.types:
                self.members[item.types[0]].append(row)

    def draw(self, rng: np.random.Generator) -> int:
        """The row of an item."""
        if not self.types or rng.random() < _ANY_ITEM:
            return int(rng.integers(self.count))
        members = self.members[self.types[int(rng.choice(len(self.types), p=self.share))]]
        return members[int(rng.integers(len(members)))]


class QueryWriter:
    """Draws anchors and writes one query at a time."""

    def __init__(
        self, mined: Mined, rng: np.random.Generator, kinds: Mapping[str, float], skip: Container[int] = ()
    ) -> None:
        """`kinds`: how often each kind of query is tried (QueryGenerationConfig.kinds). `skip`: items for no query."""
        self.mined, self.rng, self.skip = mined, rng, skip
        self.anchors = Anchors(mined.items)
        self.kinds = list(kinds)
        self.weights = np.array(list(kinds.values())) / sum(kinds.values())
        self.writers: dict[str, Callable[[_Draft], str]] = {
            "type": self._only_type,
            "brand": self._only_brand,
            "brand-type": self._brand_type,
            "attribute": self._attribute,
            "brand-attribute": self._brand_attribute,
            "series": self._series,
            "model": self._model,
            "compatible": self._compatible,
            "title": self._title,
            "feature": lambda draft: self._feature(draft, "has", "with"),
            "negation": lambda draft: self._feature(draft, "lacks", "without"),
        }

    def write(self) -> Asked | None:
        """One query of a random kind; None when its random anchor cannot give it."""
        row = self.anchors.draw(self.rng)
        kind = self.kinds[int(self.rng.choice(len(self.kinds), p=self.weights))]
        draft = _Draft(self.mined.items[row])
        if row in self.skip:
            return None
        try:
            text = self.writers[kind](draft)
        except NoFit:
            return None
        if kind in _FRAMED and not is_latin(text):
            return None
        text = " ".join(self._typo(text).split())
        return Asked(text, kind, row, draft.type, tuple(draft.soft), tuple(draft.hard))

    def _pick(self, options: list[Any]) -> Any:
        if not options:
            raise NoFit
        return options[int(self.rng.integers(len(options)))]

    def _often(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    # What a query is put together from

    def _type(self, draft: _Draft) -> str:
        """The name of a type of the item, mostly its main one, in one of the ways to say it."""
        usable = [
            phrase
            for phrase in draft.item.types
            if phrase not in everyday().vague and len(self.mined.rows["type", phrase]) >= MIN_ITEMS
        ]
        if not usable:
            raise NoFit
        draft.type = usable[0] if self._often(0.75) else usable[int(self.rng.integers(len(usable)))]
        name = self.mined.spelled[draft.type]
        ways = everyday().names.get(draft.type)
        if ways and self._often(0.5):
            name = ways[int(self.rng.integers(len(ways)))]
        if self._often(0.12) and _has_plural(name):
            name += "s"
        return name

    def _brand(self, draft: _Draft) -> str:
        if draft.item.brand is None:
            raise NoFit
        draft.soft.append(("brand", draft.item.brand))
        return draft.item.brand

    def _trait(self, draft: _Draft) -> str:
        """A value, a modifier or a measure of the item that no other part of the query says."""
        taken = {facet[1] for facet in draft.soft}
        said = {*(draft.type or ()), *map(stem, tokens(f"{draft.item.brand or ''} {' '.join(_texts(taken))}"))}
        facets = [facet for facet in draft.item.facets if facet[1] not in taken]
        values = [
            facet for facet in facets if facet[0] == "value" and not said.intersection(map(stem, facet[1].split()))
        ]
        words = dict.fromkeys(title_words(draft.item.title, draft.item.brand))
        modifiers = [("word", word) for word in words if word in everyday().modifiers and stem(word) not in said]
        measures = [facet for facet in facets if facet[0] == "measure" and len(self.mined.rows[facet]) >= MIN_ITEMS]
        groups = [group for group in (values, values, modifiers, measures) if group]
        facet = self._pick(self._pick(groups))
        draft.soft.append(facet)
        return self._said(facet)

    def _said(self, facet: Facet) -> str:
        if facet[0] in ("value", "word"):
            ways = everyday().spellings.get(facet[1])
            return self._pick(list(ways)) if ways and self._often(0.5) else facet[1]
        number, unit = facet[1]
        ways = everyday().units.get(unit, (unit,))
        name = ways[0] if self._often(0.75) else ways[int(self.rng.integers(len(ways)))]
        gap = " " if len(name) > 2 or self._often(0.4) else ""
        return f"{number:g}{gap}{name}"

    def _in_order(self, before: list[str], noun: str, share_before: float = 0.65) -> str:
        """Words before the product's name, or behind it."""
        front = [word for word in before if self._often(share_before)]
        back = [word for word in before if word not in front]
        return " ".join([*front, noun, *back])

    # Kinds of query

    def _only_type(self, draft: _Draft) -> str:
        """A product word, as often for one thing as for several."""
        name = self._type(draft)
        return f"{name}s" if self._often(0.3) and _has_plural(name) else name

    def _only_brand(self, draft: _Draft) -> str:
        brand = draft.item.brand
        if brand is None or len(self.mined.rows["brand", brand]) < MIN_ITEMS:
            raise NoFit
        draft.hard.append(("brand", brand))
        return brand

    def _brand_type(self, draft: _Draft) -> str:
        return self._in_order([self._brand(draft)], self._type(draft), 0.88)

    def _attribute(self, draft: _Draft) -> str:
        noun = self._type(draft)
        traits = [self._trait(draft)]
        if self._often(0.15):
            traits.append(self._trait(draft))
        return self._in_order(traits, noun, 0.6)

    def _brand_attribute(self, draft: _Draft) -> str:
        noun = self._type(draft)
        trait = self._trait(draft)
        brand = self._brand(draft)
        tail = self._in_order([trait], noun, 0.4)
        return f"{brand} {tail}" if self._often(0.85) else f"{tail} {brand}"

    def _series(self, draft: _Draft) -> str:
        facet = self._pick([facet for facet in draft.item.facets if facet[0] == "series"])
        draft.hard.append(facet)
        brand = self._brand(draft) if self._often(0.5) else ""
        noun = self._type(draft) if draft.item.types and self._often(0.5) else ""
        if not (brand or noun) and self._often(0.5):
            raise NoFit  # the bare series word now and then only
        return f"{brand} {facet[1]} {noun}"

    def _model(self, draft: _Draft) -> str:
        model = self._pick([facet for facet in draft.item.facets if facet[0] == "model"])
        draft.hard.append(model)
        series = [facet[1] for facet in draft.item.facets if facet[0] == "series"]
        front = [self._brand(draft)] if self._often(0.4) else []
        front += series[:1] if self._often(0.6) else []
        name = str(model[1]) if self._often(0.8) else str(model[1]).replace("-", " ")
        noun = self._type(draft) if draft.item.types and self._often(0.3) else ""
        return " ".join([*front, name, noun])

    def _compatible(self, draft: _Draft) -> str:
        noun = self._type(draft)
        facet = self._pick([facet for facet in draft.item.facets if facet[0] == "for"])
        draft.hard.append(facet)
        after = draft.item.after
        place = after.index(facet[1]) if facet[1] in after else 0
        series = [after[place - 1]] if place and after[place - 1].isalpha() else []
        if not series or self._often(0.3):
            series = [self._brand(draft), *series]
        target = " ".join([*series, str(facet[1])])
        return f"{noun} for {target}" if self._often(0.5) else f"{target} {noun}"

    def _title(self, draft: _Draft) -> str:
        """A run of words out of the title."""
        words = title_words(draft.item.title, draft.item.brand)
        length = int(self.rng.integers(2, 4))
        if len(words) < length:
            raise NoFit
        start = int(self.rng.integers(len(words) - length + 1))
        span = words[start : start + length]
        plain = [stem(word) for word in span if word.isalpha() and len(word) > 2]
        edges = span[0], span[-1]
        if len(plain) < 2 or any(len(word) < 2 or word in _LOOSE for word in edges):
            raise NoFit
        if any(phrase[-1] in plain for phrase in draft.item.types):
            draft.type = next(phrase for phrase in draft.item.types if phrase[-1] in plain)
        draft.soft.extend(("word", stem(word)) for word in dict.fromkeys(tokens(" ".join(span))))
        if draft.item.brand and self._often(0.3):
            return f"{self._brand(draft)} {' '.join(span)}"
        return " ".join(span)

    def _feature(self, draft: _Draft, answer: str, word: str) -> str:
        noun = self._type(draft)
        facet = self._pick([facet for facet in draft.item.facets if facet[0] == answer])
        if not len(self.mined.rows.get(("lacks" if answer == "has" else "has", facet[1]), ())):
            raise NoFit  # when every item answers alike, nobody would ask
        draft.hard.append(facet)
        if set(draft.type or ()) & set(map(stem, facet[1].split())):
            raise NoFit
        if answer == "has" and self._often(0.5):
            return f"{facet[1]} {noun}"
        return f"{noun} {word} {facet[1]}"

    def _typo(self, text: str) -> str:
        """Now and then two letters of a long word change places."""
        words = text.split()
        long = [i for i, word in enumerate(words) if len(word) > 6 and word.isalpha()]
        if not long or not self._often(0.015):
            return text
        place = int(self._pick(long))
        at = int(self.rng.integers(1, len(words[place]) - 2))
        word = words[place]
        words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return " ".join(words)


def _has_plural(name: str) -> bool:
    """Whether an English "s" makes several of a thing."""
    return not name.endswith(_NO_PLURAL) and is_latin(name)


def _texts(values: set[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


_NO_PLURAL = ("s", "x", "y", "z", "ch", "sh", "mouse", "media", "memory", "paper", "ink", "film")
_FRAMED = frozenset(["compatible", "feature", "negation"])  # with English words around those of the catalogue
_LOOSE = frozenset(
    ["for", "with", "to", "and", "or", "of", "in", "on", "the", "x", "from", "by", "incl", "per", "&", "-"]
)
