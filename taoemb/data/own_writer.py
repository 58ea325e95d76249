"""Writes queries in any language from a catalogue's own words: nothing is added, no ending is changed.

The parts of a query stand in the title's order. Parts that touch in the title touch in the query, so that no space
comes into a run of Chinese, Japanese or Thai; other parts are joined by one space, as people type key words.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from taoemb.data.facets import Facet
from taoemb.data.lexicon import Phrase
from taoemb.data.own_titles import Title, is_word
from taoemb.data.own_words import OwnWords
from taoemb.data.query_writer import MIN_ITEMS, Anchors, Asked, NoFit
from taoemb.data.segments import Piece, is_measure, key_of

KINDS = ("type", "brand", "brand-type", "attribute", "brand-attribute", "series", "model", "title")
"""Kinds of query that need no word beside the catalogue's own."""

_LONGEST = 60  # characters of a query
_BEFORE = 0.65  # share of parts that the title does not hold which stand before the others


@dataclass
class _Draft:
    row: int
    title: Title
    types: Sequence[Phrase]
    facets: Sequence[Facet]
    spans: list[tuple[int, int]] = field(default_factory=list)  # parts that the title holds
    front: list[str] = field(default_factory=list)  # parts that it does not hold
    back: list[str] = field(default_factory=list)
    type: Phrase | None = None
    soft: list[Facet] = field(default_factory=list)
    hard: list[Facet] = field(default_factory=list)


class OwnWriter:
    """Draws anchors and writes one query at a time."""

    def __init__(self, own: OwnWords, rng: np.random.Generator, kinds: Mapping[str, float]) -> None:
        """`kinds`: how often each kind of query is tried; those beside KINDS are left out."""
        self.own, self.rng = own, rng
        self.anchors = Anchors(own.mined.items)
        self.kinds = [kind for kind in KINDS if kinds[kind] > 0]
        shares = np.array([kinds[kind] for kind in self.kinds])
        self.weights = shares / shares.sum()
        self.writers: dict[str, Callable[[_Draft], None]] = {
            "type": self._type,
            "brand": self._only_brand,
            "brand-type": lambda draft: self._all(draft, self._brand, self._type),
            "attribute": lambda draft: self._all(draft, self._type, self._trait),
            "brand-attribute": lambda draft: self._all(draft, self._type, self._trait, self._brand),
            "series": lambda draft: self._named(draft, "series"),
            "model": lambda draft: self._named(draft, "model"),
            "title": self._span,
        }

    def write(self) -> Asked | None:
        """One query of a random kind; None when its random anchor cannot give it."""
        row = self.anchors.draw(self.rng)
        kind = self.kinds[int(self.rng.choice(len(self.kinds), p=self.weights))]
        item = self.own.mined.items[row]
        draft = _Draft(row, self.own.titles[row], item.types, item.facets)
        try:
            self.writers[kind](draft)
        except NoFit:
            return None
        text = _joined(draft)
        if not text or len(text) > _LONGEST:
            return None
        return Asked(text, kind, row, draft.type, tuple(draft.soft), tuple(draft.hard))

    def _pick(self, options: Sequence[Any]) -> Any:
        if not options:
            raise NoFit
        return options[int(self.rng.integers(len(options)))]

    def _often(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def _all(self, draft: _Draft, *parts: Callable[[_Draft], None]) -> None:
        for part in parts:
            part(draft)

    def _say(self, draft: _Draft, keys: Sequence[str], else_: str, before: float = _BEFORE) -> None:
        """Add words as the title has them, or as another field of the item has them."""
        if span := draft.title.find(keys):
            draft.spans.append(span)
        else:
            (draft.front if self._often(before) else draft.back).append(else_)

    def _type(self, draft: _Draft) -> None:
        """A type of the item: its category, or the word of its title."""
        draft.type = self._pick(draft.types)
        self._say(draft, draft.type, draft.title.category or "", 0.0)

    def _brand(self, draft: _Draft) -> None:
        if draft.title.brand is None:
            raise NoFit
        draft.soft.append(("brand", key_of(draft.title.brand)))
        self._say(draft, [key_of(word) for word in draft.title.brand.split()], draft.title.brand, 1.0)

    def _only_brand(self, draft: _Draft) -> None:
        self._brand(draft)
        draft.hard = [draft.soft.pop()]
        if len(self.own.mined.rows[draft.hard[0]]) < MIN_ITEMS:
            raise NoFit

    def _trait(self, draft: _Draft) -> None:
        """A value, a measure or a word of the title that no other part of the query says."""
        said = {*(draft.type or ()), *draft.title.brand_keys}
        able = [facet for facet in draft.facets if facet[0] in ("value", "word", "measure")]
        facets = [facet for facet in able if not said.intersection(facet[1].split())]
        values = [facet for facet in facets if facet[0] == "value"]
        words = [facet for facet in facets if facet[0] == "word"]
        sizes = [facet for facet in facets if facet[0] == "measure" and len(self.own.mined.rows[facet]) >= MIN_ITEMS]
        facet = self._pick(self._pick([group for group in (values, values, words, sizes) if group]))
        draft.soft.append(facet)
        self._say(draft, facet[1].split(), draft.title.values.get(facet[1], ""))

    def _named(self, draft: _Draft, kind: str) -> None:
        """A series or a model, with the brand or the type now and then."""
        facet = self._pick([facet for facet in draft.facets if facet[0] == kind])
        draft.hard.append(facet)
        self._say(draft, [facet[1]], "")
        if draft.title.brand and self._often(0.5):
            self._brand(draft)
        if draft.types and self._often(0.4):
            self._type(draft)

    def _span(self, draft: _Draft) -> None:
        """Two or three words that stand together in the title."""
        run = self._pick(draft.title.runs)
        length = int(self.rng.integers(2, 4))
        if len(run) < length:
            raise NoFit
        start = int(self.rng.integers(len(run) - length + 1))
        span = run[start : start + length]
        words = [piece.key for piece in span if is_word(piece, self.own.function)]
        if len(words) < 2 or not all(self._may_end(piece) for piece in (span[0], span[-1])):
            raise NoFit
        draft.type = next((phrase for phrase in draft.types if set(phrase) <= set(words)), None)
        draft.soft.extend(("word", piece.key) for piece in span)
        draft.spans.append((span[0].start, span[-1].end))

    def _may_end(self, piece: Piece) -> bool:
        return is_word(piece, self.own.function) or is_measure(piece.key)


def _joined(draft: _Draft) -> str:
    """The parts in the title's order; each place of the title is said once."""
    text, end = "", -1
    for start, stop in sorted(set(draft.spans)):
        if start < end:
            continue
        text += ("" if start == end else " ") + draft.title.text[start:stop]
        end = stop
    return " ".join(" ".join([*draft.front, text, *draft.back]).split())
