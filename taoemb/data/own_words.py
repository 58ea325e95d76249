"""Reads what a catalogue in any language holds out of its own words: no list of product words is needed.

Types are found by own_types.py, and categories are types too. Facets are brands, attribute values that titles say as
well, measures, models, series and words. Rows are an inverted index, as in mining.py.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taoemb.data.facets import MAX_MODEL_ITEMS, MIN_SAID, MIN_SERIES_ITEMS, Facet, is_model
from taoemb.data.language import Language
from taoemb.data.lexicon import Phrase
from taoemb.data.mining import MIN_TYPE_BRANDS, MIN_TYPE_ITEMS, Item, Mined
from taoemb.data.own_titles import Title, is_word, read_titles
from taoemb.data.own_types import Seen, main_types, see, type_rows
from taoemb.data.segments import is_measure, key_of

_COMMON = 0.5  # of all items: a category of more says nothing
_KIN = 0.2  # of all items: in a category of more, not everything is taken for the same kind of thing
_ONE_BRAND = 0.85  # share of a word's items: more are a series


@dataclass(frozen=True)
class OwnWords:
    """A catalogue's items, their titles, and the function words that no query begins or ends with."""

    mined: Mined
    titles: list[Title]
    function: frozenset[str]


def mine_own(records: Sequence[dict[str, Any]], language: Language) -> OwnWords:
    """Read types and facets out of item records (dicts as `Catalogue.records` gives them)."""
    function = frozenset(map(key_of, language.function_words()))
    titles, segmenter = read_titles(records, language)
    seen = see(titles, function)
    mains = main_types(seen)
    items = [_item(title, main, seen) for title, main in zip(titles, mains, strict=True)]
    rows = seen.rows
    for row, item in enumerate(items):
        for facet in item.facets:
            if facet[0] != "word":  # they are in the index already
                rows[facet].append(row)
    rows |= type_rows(items, mains, seen)
    index = {facet: np.unique(np.array(found, dtype=np.int32)) for facet, found in rows.items()}
    return OwnWords(Mined(items, index, {}, segmenter.keys, _alone), titles, function)


def _alone(phrase: Phrase) -> tuple[Phrase, ...]:
    """No other word is known for the same product."""
    return (phrase,)


def _item(title: Title, main: Phrase | None, seen: Seen) -> Item:
    named = len(seen.rows["category", title.category_key]) if title.category_key else 0
    usable = MIN_TYPE_ITEMS <= named <= max(MIN_TYPE_ITEMS, _COMMON * len(seen.titles))
    types = list(dict.fromkeys(phrase for phrase in (title.category_key if usable else None, main) if phrase))
    facets = dict.fromkeys((*_surroundings(title, seen), *_fields(title, types, seen), *_words(title, types, seen)))
    return Item(title.text, key_of(title.brand) if title.brand else None, [], [], types, list(facets))


def _surroundings(title: Title, seen: Seen) -> Iterator[Facet]:
    """What tells which items may be alike though they share no word."""
    if title.script:
        yield "script", title.script
    if title.category_key and len(seen.rows["category", title.category_key]) <= _KIN * len(seen.titles):
        yield "category", title.category_key


def _fields(title: Title, types: Sequence[Phrase], seen: Seen) -> Iterator[Facet]:
    """Brand, attribute values that titles say too, measures."""
    if title.brand:
        yield "brand", key_of(title.brand)
    taken = {key for phrase in types for key in phrase} | title.brand_keys
    for value in title.values:
        words = value.split()
        if not taken.intersection(words) and min(len(seen.rows.get(("named", key), ())) for key in words) >= MIN_SAID:
            yield "value", value
    for piece in title.pieces():
        if is_measure(piece.key):
            yield "measure", piece.key


def _words(title: Title, types: Sequence[Phrase], seen: Seen) -> Iterator[Facet]:
    """Models, series (words that one brand alone uses), and other words of the title."""
    taken = {key for phrase in types for key in phrase} | title.brand_keys
    for piece in title.pieces():
        of = seen.brands.get(piece.key, Counter())
        if is_model(piece.key):
            if len(of) == 1 and of.total() <= MAX_MODEL_ITEMS and len(piece.key) >= 4:
                yield "model", piece.key
        elif is_word(piece, seen.function) and piece.key not in taken:
            series = title.brand and of[title.brand] >= max(MIN_SERIES_ITEMS, _ONE_BRAND * of.total())
            if series and seen.branded >= MIN_TYPE_BRANDS and len(piece.key) > 2:
                yield "series", piece.key
            elif of.total() >= MIN_SAID:
                yield "word", piece.key
