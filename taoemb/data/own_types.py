"""Finds what products the items of a catalogue are from its own words, in any language.

A *type* is a word of a title that says much about the other words of its items (clarity.py) and stands in many of them,
in titles of several brands; with the word beside it, where it hardly ever stands without ("cafetera italiana"). What
follows the first function word of a title is what the product goes with, and no type.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np

from taoemb.data.clarity import clarities
from taoemb.data.facets import Facet
from taoemb.data.lexicon import Phrase
from taoemb.data.mining import MIN_TYPE_BRANDS, MIN_TYPE_ITEMS, Item
from taoemb.data.own_titles import Title, is_word
from taoemb.data.scripts import HAN, script_of
from taoemb.data.segments import touches

_MAINLY = 0.35  # share of a word's items of which it must be the type, or else it is none
_VALUED = 0.3  # share of a word's items that have it as an attribute's value: it describes
_BESIDE = 0.8  # share of a type's items that have the same word beside it: that belongs to it
_ALIKE = 0.5  # share of a type's letters that another type begins or ends with: it may be the same thing

Rows = dict[Facet, list[int]]


@dataclass(frozen=True)
class Seen:
    """All titles, where their words are, and which brands use them."""

    titles: list[Title]
    function: frozenset[str]
    rows: Rows  # ("named", word), ("word", word), ("category", phrase), ("valued", value)
    brands: dict[str, Counter[str | None]]  # word → how many of its items are of each brand; words of the brand aside
    branded: int  # brands

    def of_several(self, key: str) -> bool:
        """Whether a word is used by several brands, or brands say nothing here."""
        return self.branded < MIN_TYPE_BRANDS or len(self.brands[key]) >= MIN_TYPE_BRANDS


def see(titles: list[Title], function: frozenset[str]) -> Seen:
    """Index the titles."""
    rows: Rows = defaultdict(list)
    brands: dict[str, Counter[str | None]] = defaultdict(Counter)
    for row, title in enumerate(titles):
        keys = title.keys()
        for key in sorted(keys):
            rows["named", key].append(row)
        for key in sorted(keys | title.others):
            rows["word", key].append(row)
        for key in keys - title.brand_keys:
            brands[key][title.brand] += 1
        if title.category_key:
            rows["category", title.category_key].append(row)
        for value in title.values:
            rows["valued", value].append(row)
    return Seen(titles, function, rows, brands, len({title.brand for title in titles if title.brand}))


def main_types(seen: Seen) -> list[Phrase | None]:
    """Each item's type, if any of the words before the first function word can be one."""
    titles = seen.titles
    words = {piece.key for title in titles for piece in title.pieces() if is_word(piece, seen.function)}
    names = frozenset().union(*(title.brand_keys for title in titles))
    able = {
        key: seen.rows["named", key]
        for key, of in seen.brands.items()
        if key in words - names
        and of.total() >= MIN_TYPE_ITEMS
        and seen.of_several(key)
        and len(seen.rows.get(("valued", key), ())) <= _VALUED * len(seen.rows["word", key])
    }
    clear = clarities([sorted(title.keys() | title.others) for title in titles], able, sorted(able))
    score = {key: value * float(np.log(len(able[key]))) for key, value in clear.items()}
    for _ in range(2):
        count = Counter(_best(title, score) for title in titles)
        score = {key: value for key, value in score.items() if count[key] > _MAINLY * _in_front(able[key], titles, key)}
    mains = [_best(title, score) for title in titles]
    wider = _with_neighbours(titles, mains, seen.function | names)
    return [_phrase(title, main, wider) if main else None for title, main in zip(titles, mains, strict=True)]


def _best(title: Title, score: Mapping[str, float]) -> str | None:
    return max(title.front & score.keys(), key=lambda key: (score[key], key), default=None)


def _in_front(rows: Sequence[int], titles: Sequence[Title], key: str) -> int:
    return sum(key in titles[row].front for row in rows)


def _with_neighbours(titles: Sequence[Title], mains: Sequence[str | None], never: frozenset[str]) -> dict[str, Phrase]:
    """Type → itself with the words that nearly always stand beside it, if any do."""
    left: dict[str, Counter[str]] = defaultdict(Counter)
    right: dict[str, Counter[str]] = defaultdict(Counter)
    for title, main in zip(titles, mains, strict=True):
        for run in title.runs:
            for before, after in pairwise(piece.key for piece in run):
                if main == after and before not in never and not any(map(str.isdigit, before)):
                    left[main][before] += 1
                if main == before and after not in never and not any(map(str.isdigit, after)):
                    right[main][after] += 1
    wider: dict[str, Phrase] = {}
    for main, n in Counter(main for main in mains if main).items():
        front = [key for key, count in left[main].most_common(1) if count >= _BESIDE * n]
        back = [key for key, count in right[main].most_common(1) if count >= _BESIDE * n]
        if front or back:
            wider[main] = (*front, main, *back)
    return wider


def _phrase(title: Title, main: str, wider: Mapping[str, Phrase]) -> Phrase:
    phrase = wider.get(main, (main,))
    return phrase if title.find(phrase) else (main,)


def type_rows(items: Sequence[Item], mains: Sequence[Phrase | None], seen: Seen) -> Rows:
    """Items of each type, those that may be of it ("unsure"), and what compounds of spaceless scripts name besides.

    An item may be of a type when its first words name it though it has another main type.
    """
    found: Rows = defaultdict(list)
    for row, item in enumerate(items):
        for phrase in item.types:
            found["type", phrase].append(row)
    for row, main in enumerate(mains):  # "italiana" is said by few alone, and then means all that are
        for key in main if main and len(main) > 1 else ():
            if ("type", (key,)) in found:
                found["type", (key,)].append(row)
    for _, phrase in list(found):
        naming = set.intersection(*(set(seen.rows.get(("named", key), ())) for key in phrase))
        found["unsure", phrase] += [row for row in naming if seen.titles[row].front.issuperset(phrase)]
        if len(phrase) > 1:
            found["unsure", phrase] += [
                row for row, main in enumerate(mains) if main and len(main) == 1 and main[0] in phrase
            ]
    _add_compounds(found, seen.rows)
    return found


def _add_compounds(types: Rows, rows: Rows) -> None:
    """Where words touch, a longer word is a thing of the type at its head and names every other word in it.

    The head comes last in Chinese and Japanese, first in Thai and its neighbours. Types that begin or end alike may be
    the same thing with a word more.
    """
    words = [key for kind, key in rows if kind == "named" and touches(key)]
    short = [phrase[0] for kind, phrase in types if kind == "type" and len(phrase) == 1 and touches(phrase[0])]
    for head in short:
        for longer in words:
            if head in longer and head != longer:
                headed = longer.endswith(head) if script_of(longer) == HAN else longer.startswith(head)
                if headed:
                    types["type", (head,)] = types["type", (head,)] + types.get(("type", (longer,)), [])
                rows["named", head] = rows["named", head] + rows["named", longer]
    joined = {"".join(phrase): phrase for kind, phrase in types if kind == "type" and touches("".join(phrase))}
    for one, other in permutations(joined, 2):
        if max(_same_start(one, other), _same_start(one[::-1], other[::-1])) >= _ALIKE * len(one):
            types["unsure", joined[one]] = types["unsure", joined[one]] + types["type", joined[other]]


def _same_start(one: str, other: str) -> int:
    """Letters that two words begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
