"""Reads the facets of an item that a shopper might name: values, measures, models, series, features, what it is for."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from taoemb.data.lexicon import everyday
from taoemb.data.words import stem, tokens

Facet = tuple[str, Any]  # ("brand", "hp"), ("value", "black"), ("measure", (16.0, "gb")), ("model", "wh-1000xm4"), …

MIN_SERIES_ITEMS, MAX_MODEL_ITEMS, MIN_SAID, MIN_REPEATED = 3, 12, 3, 0.25
_LEGAL = frozenset(["technology", "technologies", "inc", "ltd", "corp", "corporation", "gmbh", "co", "company"])
_MEASURE = re.compile(
    r"(?<![\w.,/-])(\d+(?:[.,]\d+)?)\s?-?(gb|tb|mb|inch(?:es)?|in|\"|″|m|meters?|metres?|cm|mm|ft|feet|ghz|mhz|w|watts?|v"
    r"|va|mah|ports?|outlets?|kg|ml|l|pcs|pieces?|pages?|sheets?)(?![\w\"'-])(?!\s?\d)"
)
_TWICE = re.compile(r"\d+(?:[.,]\d+)? c?m (\(\d+(?:[.,]\d+)?\"\))")
_UNIT_NAMES = {"in": "inch", '"': "inch", "″": "inch", "inches": "inch", "meter": "m", "metre": "m", "feet": "ft"}
_UNIT_NAMES |= {"watt": "w", "pcs": "piece", "foot": "ft"}
_MODEL = re.compile(r"(?=[^\W_]*[a-z-])(?=.*\d)[^\W_]+(?:[-/][^\W_]+)*")
_SIZE = re.compile(
    r"[\d.,x×/+-]+(?:inch|in|g|kg|gb|mb|tb|mm|cm|m|ft|w|v|va|kva|k|ghz|mhz|hz|x|p|pin|port|g/m²|μm|nm|st|nd|rd|th)?"
)
_YES, _NO = frozenset(["true", "yes", "y"]), frozenset(["false", "no", "n"])
_PARTS = re.compile(r"[,;/\n]|\\n")
# Attributes about packing, paper work and the test bench: nobody searches by them.
_DULL = re.compile(
    r"pack|pallet|carton|master|shipping|ship_|certif|compliance|country|warrant|status|launch|url|code|segment|retail"
    r"|manual|guide|included|temperature|humidity|altitude|voltage|frequency|dimension|weight|standard|operating_sys"
    r"|recycl|harmonized|codename|stepping|content|bundled|driver|purpose|update|change|test|environment|method"
)


@dataclass(frozen=True)
class Vocabulary:
    """What the whole catalogue says: needed to know a series, a model or a usable value when one sees it."""

    series: dict[str, str]  # word → the brand that alone uses it
    models: frozenset[str]
    said: Counter[str]  # n-grams of titles and descriptions → number of items
    keys: frozenset[str]  # attributes whose values titles and descriptions often repeat


@cache
def brand_name(brand: str | None) -> str | None:
    """A brand as shoppers write it ("StarTech.com" → "startech", "Kingston Technology" → "kingston")."""
    words = (brand or "").casefold().replace(".com", "").replace("®", "").split()
    return " ".join(word for word in words if word not in _LEGAL) or None


def read_vocabulary(
    records: Sequence[dict[str, Any]], behind: Sequence[list[str]], nouns: frozenset[str]
) -> Vocabulary:
    """One pass over all items. `behind` holds each title's words after "for", "with", …; `nouns` name products."""
    said: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    brands_of: dict[str, Counter[str]] = defaultdict(Counter)
    leads: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for record, after in zip(records, behind, strict=True):
        text = f"{record['title']} . {record.get('description') or ''}"[:400]
        said.update(set(_grams(tokens(text))))
        words = [word for word in title_words(record["title"], record.get("brand")) if word not in after]
        for word in set(words):
            brands_of[word][brand_name(record.get("brand")) or ""] += 1
        leads.update(set(words[:3]))
        small.update({word for word in record["title"].split() if word.islower()})
        lowered = text.casefold()
        for key, value in record["attributes"].items():
            if len(value) <= 30 and not value[:1].isdigit():
                asked[key] += 1
                repeated[key] += any(part.strip().casefold() in lowered for part in _PARTS.split(value))
    series = {
        word: brand
        for word, brands in brands_of.items()
        for brand, n in brands.most_common(1)
        if n >= max(MIN_SERIES_ITEMS, 0.85 * brands.total())
        and leads[word] >= 0.6 * brands.total()
        and small[word] <= 0.2 * brands.total()
        and word.replace("-", "").isalpha()
        and len(word) > 2
        and word not in everyday().modifiers | everyday().endings
        and not nouns.intersection((stem(word), *word.split("-")))
        and word not in brand.split()
    }
    models = frozenset(
        word
        for word, brands in brands_of.items()
        if len(brands) == 1 and brands.total() <= MAX_MODEL_ITEMS and len(word) >= 4 and is_model(word)
    )
    keys = frozenset(key for key, n in asked.items() if n >= MIN_SAID and repeated[key] >= MIN_REPEATED * n)
    return Vocabulary(series, models, said, keys)


def is_model(word: str) -> bool:
    """Whether a word of Latin letters and digits reads like a model's name, not like a size."""
    return bool(_MODEL.fullmatch(word)) and not _SIZE.fullmatch(word)


def title_words(title: str, brand: str | None) -> list[str]:
    """A title's words without the brand that leads it and without punctuation around them; hyphens stay."""
    text = title.casefold()
    if brand and text.startswith(brand.casefold()):
        text = text[len(brand) :]
    return [word for raw in text.split() if (word := raw.strip(".,;:()[]\"'®™*+!?–—"))]


def read_facets(record: dict[str, Any], after: list[str], known: Vocabulary) -> Iterator[Facet]:
    """Everything but the types. `after` holds the title's words behind "for", "with", …"""
    brand = brand_name(record.get("brand"))
    if brand:
        yield "brand", brand
    behind = set(after)
    for word in title_words(record["title"], record.get("brand")):
        if word not in behind and brand and known.series.get(word) == brand:
            yield "series", word
        elif word not in behind and word in known.models:
            yield "model", word
    description = (record.get("description") or "")[:200]
    yield from measures(f"{record['title']} ; {description}")
    fits = [word for before, word in pairwise(["", *after]) if not word.isdigit() or before in known.series]
    for key, value in record["attributes"].items():
        if _is_dull(key):
            continue
        if "compatib" in key:
            fits += re.split(r"[\s,/;]+|\\\\n", value.casefold())
        else:
            yield from _attribute(key, value, known)
    for word in fits:
        name = word.strip(".,;:()[]\"'")
        if name in known.models or (name.isdigit() and 3 <= len(name) <= 5) or (len(name) > 2 and is_model(name)):
            yield "for", name


@cache
def _is_dull(key: str) -> bool:
    return bool(_DULL.search(key))


def measures(text: str) -> Iterator[Facet]:
    """Numbers with a unit; inches also without their fraction (people say 17 inch for 17.3), and not in cm as well."""
    for number, unit in _MEASURE.findall(_TWICE.sub(r"\1", text.casefold())):
        name = _UNIT_NAMES.get(unit.rstrip("s"), _UNIT_NAMES.get(unit, unit.rstrip("s") if len(unit) > 2 else unit))
        value = float(number.replace(",", "."))
        if 0 < value < 100_000:
            yield "measure", (value, name)
            if name == "inch" and value > 10 and value != int(value):
                yield "measure", (float(int(value)), name)


def _attribute(key: str, value: str, known: Vocabulary) -> Iterator[Facet]:
    answer = value.casefold()
    if answer in _YES or answer in _NO:
        name = key.replace("_", " ").strip()
        if len(name.split()) <= 3 and known.said[name] >= MIN_SAID:
            yield ("has" if answer in _YES else "lacks"), name
    elif key in known.keys:
        for part in _PARTS.split(answer):
            words = tokens(part)
            name = " ".join(words)
            plain = any(word.isalpha() and len(word) > 2 for word in words) and len(set(words)) == len(words)
            if plain and len(words) <= 3 and known.said[name] >= MIN_SAID:
                yield "value", name


def _grams(words: Sequence[str]) -> Iterable[str]:
    for length in (1, 2, 3):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])
