"""Decides from a catalogue's own text which language it is written in, and which word lists may be used for it.

English alone has lists of words that may stand in a query though the catalogue never says them (everyday.yaml). For
every other language languages.yaml holds function words: they tell the language, and no query begins or ends with one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml

from taoemb.data.lexicon import everyday
from taoemb.data.scripts import HAN, LATIN, marks, script_of
from taoemb.data.words import stem

ENGLISH, UNKNOWN = "en", "und"
_SAMPLE = 5_000  # items that the language is read from
_SHARE = 0.02  # of the words are function words, at least: running text has a fifth of them
_IN_TITLES = 0.04  # the same of titles, to go by them alone
_LEAD = 1.5  # times as many of them as English has, or English as any other: "in", "for" and "of" are words of several
_ENGLISH_PRODUCTS = 0.2  # share of words for products that makes titles without any other sign English
_ACCENTED = 0.1  # English has fewer words with letters beyond a to z
_KANA = 0.1  # share of kana among a catalogue's ideographs that makes it Japanese
_ONLY = {"HANGUL": "ko", "THAI": "th", "GREEK": "el", "HEBREW": "he", "LAO": "lo", "KHMER": "km", "MYANMAR": "my"}
_ONLY |= {"TAMIL": "ta", "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml", "GUJARATI": "gu", "BENGALI": "bn"}
_ONLY |= {"GEORGIAN": "ka", "ARMENIAN": "hy", "ETHIOPIC": "am", "SINHALA": "si", "GURMUKHI": "pa"}


@dataclass(frozen=True)
class Words:
    """What languages.yaml says of one language, lowercase."""

    script: str
    function: frozenset[str]
    shop: frozenset[str]
    postpositions: bool = False  # what a thing is for stands before the word that says so


@dataclass(frozen=True)
class Language:
    """The language of a catalogue: an ISO 639 code ("und": not known), its script, and where this was seen."""

    code: str
    script: str

    @property
    def english(self) -> bool:
        return self.code == ENGLISH

    @property
    def word_lists(self) -> list[str]:
        """Names of the lists that its queries are made with; empty: the catalogue's own words alone."""
        if self.english:
            return ["everyday shopping English"]
        return [f"function words ({self.code})"] if self.code in languages() else []

    def function_words(self) -> frozenset[str]:
        """Its function words, and those of all languages in other scripts: a title may be written in any."""
        others = (words for code, words in languages().items() if words.script != self.script or code == self.code)
        return frozenset().union(*(words.function for words in others))

    @property
    def postpositions(self) -> bool:
        return self.code in languages() and languages()[self.code].postpositions


@cache
def languages() -> Mapping[str, Words]:
    """The packaged languages by code, English first; single Latin letters are left out: titles use them as units."""
    tree = yaml.safe_load(resources.files("taoemb.data").joinpath("languages.yaml").read_text("utf-8"))
    return {
        code: Words(
            entry["script"],
            frozenset(word for word in entry["function"].split() if len(word) > 1 or entry["script"] != LATIN),
            frozenset(entry["shop"].split()),
            entry.get("postpositions", False),
        )
        for code, entry in tree.items()
    }


def read_language(records: Sequence[Mapping[str, Any]], wanted: str = "auto") -> Language:
    """The language of item records: `wanted` (a code, its region and script left out), or what most titles show.

    The script of most titles comes first. Where several languages share it, the one that has most of the function words
    in the titles; where those are too few, in titles and descriptions; then with colours, sizes and words for persons;
    at last English, if the titles name products in English.
    """
    rows = np.unique(np.linspace(0, max(0, len(records) - 1), min(len(records), _SAMPLE), dtype=int)).tolist()
    titles = [str(records[row]["title"]).lower() for row in rows]
    scripts = Counter(script for title in titles if (script := script_of(title)))
    code = wanted.lower().replace("_", "-").split("-")[0]
    if code != "auto":
        script = languages()[code].script if code in languages() else _most(scripts) or LATIN
        return Language(code, script)
    script = _most(scripts)
    if script is None:
        return Language(UNKNOWN, LATIN)
    own = [title for title in titles if script_of(title) == script]
    if script == HAN:
        return Language("ja" if _kana("".join(own)) else "zh", script)
    if script in _ONLY:
        return Language(_ONLY[script], script)
    whole = [*own, *(str(records[row].get("description") or "")[:400].lower() for row in rows)]
    return Language(_by_words(script, own, whole), script)


def _most(counts: Counter[str]) -> str | None:
    return max(counts, key=lambda key: (counts[key], key)) if counts else None


def _kana(text: str) -> bool:
    kana = len(re.findall("[\u3041-\u309f\u30a1-\u30fa\uff66-\uff9f]", text))
    return kana >= _KANA * (kana + len(re.findall("[\u3400-\u9fff]", text)))


def _by_words(script: str, titles: Sequence[str], whole: Sequence[str]) -> str:
    of_titles, of_all = Counter(_words(titles)), Counter(_words(whole))
    known = {code: words for code, words in languages().items() if words.script == script}
    functions = {code: words.function for code, words in known.items()}
    both = {code: words.function | words.shop for code, words in known.items()}
    for counts, lists, least, share, lead in (
        (of_titles, functions, 10, _IN_TITLES, _LEAD),
        (of_all, functions, 3, _SHARE, _LEAD),
        (of_all, both, 1, _SHARE, 1),
    ):
        hits = {code: sum(counts[word] for word in words) for code, words in lists.items()}
        first = max(hits, key=lambda code: hits[code], default=UNKNOWN)
        rival = max((n for code, n in hits.items() if (code == ENGLISH) != (first == ENGLISH)), default=0)
        if first in hits and hits[first] >= max(least, share * counts.total(), lead * rival):
            return first if first != ENGLISH or _plain(of_titles) else UNKNOWN
    products = {word for phrase in (*everyday().same, *everyday().vague) for word in phrase}
    named = sum(n for word, n in of_titles.items() if stem(word) in products)
    return ENGLISH if script == LATIN and named and named >= _ENGLISH_PRODUCTS * of_titles.total() else UNKNOWN


def _plain(counts: Counter[str]) -> bool:
    return sum(n for word, n in counts.items() if not word.isascii()) <= _ACCENTED * counts.total()


def _words(texts: Iterable[str]) -> Iterable[str]:
    pattern = _pattern()
    return (word for text in texts for word in pattern.findall(text))


@cache
def _pattern() -> re.Pattern[str]:
    """Words of letters, their marks, and the joiner that Persian words hold; no parts of models, names and domains."""
    return re.compile(f"(?<![\\w.'’-])[^\\W\\d_](?:[^\\W\\d_]|[\u200c{marks()}])*(?![\\w]|[.'’-]\\w)")
