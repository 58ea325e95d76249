"""Reads what products a catalogue holds out of its own text.

Titles of real catalogues are noisy ("HP LaserJet 8150n 1200 x 1200 DPI A3"), and categories are mostly missing. A
*type* is a noun phrase that ends runs of plain words in titles of several brands ("toner cartridge"), or a category. An
item gets its types and facets; their rows are an inverted index. Nothing here reads queries or judgments, and nothing
knows a particular catalogue: everyday.yaml knows English.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from taoemb.data.facets import Facet, brand_name, read_facets, read_vocabulary
from taoemb.data.lexicon import Phrase, class_of, everyday, phrase_of, suffixes
from taoemb.data.words import stem, stems, tokens

MIN_TYPE_ITEMS, MIN_TYPE_BRANDS, MIN_COMPOUNDS, LONGEST_TYPE = 4, 2, 3, 3
_WORD = re.compile(r"[^\W\d_]{2,}(?:[-'’][^\W\d_]+)*")
_PIECE = re.compile(r"(\s-\s|[,;:()\[\]/|–—\"“”″+*#&!?]|\.(?=\s|$)|\s)")
_AFTER = frozenset(
    ["for", "with", "by", "replaces", "fits", "compatible", "equivalent", "incl", "including", "via", "f"]
)
_SMALL = frozenset(
    ["and", "or", "in", "on", "of", "the", "a", "an", "x", "no", "per", "at", "as", "your", "this", "is"]
)


@dataclass
class Item:
    """What was read of one item."""

    title: str
    brand: str | None  # as shoppers write it
    chunks: list[Phrase]  # runs of plain words that say what it is
    after: list[str]  # words behind "for", "with", …: what it goes with
    types: list[Phrase] = field(default_factory=list)  # every type it is; the first is its main one
    facets: list[Facet] = field(default_factory=list)


@dataclass(frozen=True)
class Mined:
    """The items and the rows (ascending) of every facet, type ("type", phrase), stemmed word of the title ("named", w)
    or of the whole text ("word", w)."""

    items: list[Item]
    rows: dict[Facet, np.ndarray]
    spelled: dict[Phrase, str]  # type → how the catalogue mostly writes it
    words: Callable[[str], list[str]] = stems  # a text's words as the index knows them
    same: Callable[[Phrase], tuple[Phrase, ...]] = class_of  # every type that is the same product

    def where(self, *facets: Facet) -> np.ndarray:
        """Whether each item has any of the facets (bool)."""
        found = np.zeros(len(self.items), dtype=bool)
        for facet in facets:
            if facet in self.rows:
                found[self.rows[facet]] = True
        return found

    def with_words(self, words: Sequence[str], where: Literal["named", "word"]) -> np.ndarray:
        """Whether each item's title ("named") or whole text ("word") has all the words (bool)."""
        found = np.ones(len(self.items), dtype=bool)
        for word in words:
            found &= self.where((where, word))
        return found


def mine(records: Sequence[dict[str, Any]]) -> Mined:
    """Read types and facets out of item records (dicts as `Catalogue.records` gives them)."""
    breaks = (everyday().endings | _value_words(records)) - everyday().modifiers
    items = [
        Item(
            record["title"], brand_name(record.get("brand")), *read_chunks(record["title"], record.get("brand"), breaks)
        )
        for record in records
    ]
    kinds = [phrase_of(record["category"]) if record.get("category") else None for record in records]
    types = _find_types(items, kinds, _nouns(records))
    for item, kind, record in zip(items, kinds, records, strict=True):
        item.types = _types_of(item.chunks, kind, types)
        if not item.types and record.get("description"):  # there a single word is too little to go by
            chunks, _ = read_chunks(record["description"][:120], record.get("brand"), breaks)
            item.types = [phrase for phrase in _types_of(chunks, None, types) if len(phrase) > 1]
    behind = [item.after for item in items]
    known = read_vocabulary(records, behind, frozenset(word for phrase in types for word in phrase))
    for item, record in zip(items, records, strict=True):
        item.facets = list(dict.fromkeys(read_facets(record, item.after, known)))
    return Mined(items, _index(items, records), _spellings(records, types))


def read_chunks(text: str, brand: str | None, endings: frozenset[str]) -> tuple[list[Phrase], list[str]]:
    """Runs of plain words in a text, stemmed, and the words behind a preposition (up to a semicolon or dash).

    Punctuation, numbers, models, small words and `endings` close a run. A modifier opens a new one and, when plain
    words follow, takes the run before it away ("monitor vga cable" is a cable). A repeated last word closes a run too:
    "patch cable networking cable" is a patch cable and a networking cable.
    """
    text = text.casefold().replace("(s)", "s").replace("®", "").replace("™", "")
    if brand and text.startswith(brand.casefold()):
        text = text[len(brand) :]
    chunks: list[Phrase] = []
    behind: list[str] = []
    held: list[str] = []  # the run before a modifier
    run: list[str] = []
    after = False
    for piece in (*_PIECE.split(text), ","):
        if not piece or (piece.isspace() and piece != " - "):
            continue
        if piece in everyday().modifiers and not after:
            held, run = run or held, []
        elif not after and _is_plain(piece, endings):
            held = []
            run.append(stem(piece))
        else:
            chunks.extend((*_by_head(held), *_by_head(run)))
            held, run = [], []
            if piece in _AFTER:
                after = True
            elif _PIECE.fullmatch(piece):
                after = after and piece not in {";", " - "}
            elif after:
                behind.append(piece)
    return chunks, behind


def _is_plain(piece: str, endings: frozenset[str]) -> bool:
    return bool(_WORD.fullmatch(piece)) and piece not in endings and piece not in _SMALL and piece not in _AFTER


def _by_head(run: list[str]) -> Iterator[Phrase]:
    start = 0
    for end, word in enumerate(run, 1):
        if word == run[-1]:
            yield tuple(run[start:end])
            start = end


def _value_words(records: Sequence[dict[str, Any]]) -> frozenset[str]:
    """Words that are mostly said as an attribute's value (colours, interfaces …), so that they do not name products."""
    said: Counter[str] = Counter()
    valued: Counter[str] = Counter()
    for record in records:
        words = {word for word in re.split(r"[\s,/()]+", record["title"].casefold()) if _WORD.fullmatch(word)}
        said.update(words)
        parts: set[str] = set()
        for key, value in record["attributes"].items():
            if len(value) <= 30 and "type" not in key and "material" not in key:
                parts.update(part.strip() for part in re.split(r"[,;/]", value.casefold()))
        valued.update(words & parts)
    return frozenset(word for word, n in valued.items() if n >= 3 and n > 0.3 * said[word])


def _nouns(records: Sequence[dict[str, Any]]) -> frozenset[str]:
    """Stems that the catalogue uses as singular and as plural: countable things."""
    forms: Counter[str] = Counter()
    for record in records:
        text = f"{record['title']} {record.get('category') or ''} {(record.get('description') or '')[:400]}"
        forms.update(set(tokens(text)))
    return frozenset(
        stem(word) for word, n in forms.items() if n >= 2 and stem(word) != word and forms[stem(word)] >= 2
    )


def _find_types(items: Sequence[Item], kinds: Sequence[Phrase | None], nouns: frozenset[str]) -> frozenset[Phrase]:
    """Phrases that end runs of plain words in titles, and mostly come first there; categories; everyday products.

    The last word must be used by several brands (a word that only one brand uses is a series), and be a countable thing
    or end several compounds, where the catalogue uses plurals at all.
    """
    count: Counter[Phrase] = Counter()
    brands: dict[Phrase, Counter[str | None]] = defaultdict(Counter)
    for item in items:
        for phrase in set(suffixes(item.chunks, LONGEST_TYPE)):
            count[phrase] += 1
            brands[phrase][item.brand] += 1
    compounds = Counter(phrase[-1] for phrase, n in count.items() if len(phrase) == 2 and n >= MIN_TYPE_ITEMS)
    heads = {phrase[0] for phrase, of in brands.items() if len(phrase) == 1 and _shared(of, 0.9)}
    heads |= {noun for noun in nouns if count[noun,] >= 5 * MIN_TYPE_ITEMS}
    if len(nouns & heads) >= 0.2 * len(heads):
        heads = {head for head in heads if head in nouns or compounds[head] >= MIN_COMPOUNDS}
    types = {
        phrase
        for phrase, of in brands.items()
        if len(phrase[-1]) > 2 and phrase[-1] in heads and (len(phrase) == 1 or _shared(of, 0.97))
    }
    types |= {phrase for phrase, n in count.items() if n >= 2 and phrase in everyday().same}
    for _ in range(2):
        first: Counter[Phrase] = Counter()
        for item in items:
            first.update(next(filter(None, (_within(chunk, types) for chunk in item.chunks)), []))
        types = {phrase for phrase in types if first[phrase] > 0.35 * count[phrase] or phrase in everyday().same}
    named = Counter(kind for kind in kinds if kind and len(kind) <= LONGEST_TYPE)
    return frozenset(types | {kind for kind, n in named.items() if n >= 2})


def _shared(brands: Counter[str | None], most: float) -> bool:
    """Whether several brands use a phrase, none of them for more than a share `most` of its items."""
    n = brands.total()
    return n >= MIN_TYPE_ITEMS and len(brands) >= MIN_TYPE_BRANDS and brands.most_common(1)[0][1] <= most * n


def _within(chunk: Phrase, types: set[Phrase] | frozenset[Phrase]) -> list[Phrase]:
    """Types that the chunk is: its endings, the longest first."""
    return [phrase for phrase in suffixes([chunk], LONGEST_TYPE) if phrase in types]


def _types_of(chunks: list[Phrase], kind: Phrase | None, types: frozenset[Phrase]) -> list[Phrase]:
    """An item's types, the main one first: its category, the first that has several words, then the others in order."""
    found = [own for chunk in chunks if (own := _within(chunk, types))]
    found.sort(key=lambda own: len(own[0]) == 1)
    named = [kind] if kind in types else []
    return list(dict.fromkeys([*named, *(phrase for own in found for phrase in own)]))


def _index(items: Sequence[Item], records: Sequence[dict[str, Any]]) -> dict[Facet, np.ndarray]:
    rows: dict[Facet, list[int]] = defaultdict(list)
    for row, (item, record) in enumerate(zip(items, records, strict=True)):
        for facet in item.facets:
            rows[facet].append(row)
        for phrase in dict.fromkeys(same for own in item.types for same in class_of(own)):
            rows["type", phrase].append(row)
        named = {stem(word) for word in tokens(item.title)}
        for word in named:
            rows["named", word].append(row)
        for word in named | _words(record):
            rows["word", word].append(row)
    return {facet: np.array(found, dtype=np.int32) for facet, found in rows.items()}


def _words(record: dict[str, Any]) -> set[str]:
    """Stemmed words of title, brand, category, the description's beginning and short attribute values."""
    parts = [
        record["title"],
        record.get("brand") or "",
        record.get("category") or "",
        (record.get("description") or "")[:400],
    ]
    parts += [value for value in record["attributes"].values() if len(value) <= 30 and not value[:1].isdigit()]
    return {stem(word) for word in tokens(" ".join(parts))}


def _spellings(records: Sequence[dict[str, Any]], types: frozenset[Phrase]) -> dict[Phrase, str]:
    """How titles mostly write each type, with a modifier that nearly always leads it ("large format printer")."""
    written: dict[Phrase, Counter[str]] = defaultdict(Counter)
    before: dict[Phrase, Counter[str]] = defaultdict(Counter)
    for record in records:
        words = re.findall(_WORD.pattern, f"{record['title']} {record.get('category') or ''}".casefold())
        stems = [stem(word) for word in words]
        for length in range(1, LONGEST_TYPE + 1):
            for start in range(len(words) - length + 1):
                phrase = tuple(stems[start : start + length])
                if phrase in types:
                    written[phrase][" ".join(words[start : start + length])] += 1
                    before[phrase][words[start - 1] if start else ""] += 1
    spelled: dict[Phrase, str] = {phrase: " ".join(phrase) for phrase in types}
    for phrase, ways in written.items():
        front, n = before[phrase].most_common(1)[0]
        leads = front in everyday().modifiers and n >= 0.8 * ways.total()
        spelled[phrase] = f"{front} {ways.most_common(1)[0][0]}" if leads else ways.most_common(1)[0][0]
    return spelled
