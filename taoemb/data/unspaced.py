"""Finds the words of scripts that put no spaces between them in the catalogue's own titles: no dictionary is needed.

Candidates are substrings that titles repeat beside different characters ("accessor variety", Feng et al. 2004,
Computational Linguistics 30(1)). A unigram model of them covers the titles, and only what it still needs after a few
rounds stays a word: parts of words go, since the whole is more probable. Compounds go as well, since their words are
what people type.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from taoemb.data.scripts import HAN, script_of

LONGEST = 16  # characters of a word
_MIN_ITEMS, _ROUNDS = 3, 4
_MIN_VARIETY, _MIN_VARIETY_OF_LETTERS = 3, 2  # of ideographs and syllables there are more to stand beside a word
_TORN = re.compile(
    "^[\u0e30-\u0e3a\u0e45-\u0e4e\u0eb0-\u0ebc\u0ec8-\u0ece]|[\u0e40-\u0e44\u0ec0-\u0ec4]$"
)  # from its vowel sign
_INSIDE = 0.5  # share of a word's uses inside one longer word, above which it is but a part of that
_KATAKANA = re.compile("[\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f]+|[^\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f]+")


@dataclass(frozen=True)
class Lexicon:
    """Words and how often titles use them; a run falls apart at function words (`cuts`) too."""

    words: Mapping[str, int]
    cuts: Set[str] = frozenset()

    def cut(self, run: str) -> Iterator[tuple[int, int, bool]]:
        """Where the words of a run stand, and whether they are known: characters that no word covers stay together."""
        at = 0
        for part in _KATAKANA.findall(run):
            held = at  # where unknown characters began
            for start, end in _cover(part, self.words, self.cuts):
                if end - start > 1 or part[start:end] in self.cuts:
                    if held < at + start:
                        yield held, at + start, False
                    yield at + start, at + end, True
                    held = at + end
            at += len(part)
            if held < at:
                yield held, at, False


def find_lexicon(runs: Iterable[str], given: Iterable[str], cuts: Set[str]) -> Lexicon:
    """Learn words from runs of touching letters in titles; `given`: texts known to be words (values, brands)."""
    parts = Counter(part for run in runs for part in _KATAKANA.findall(run))
    given = {text for text in given if 1 < len(text) <= LONGEST and text not in cuts}
    counts, varied = _candidates(parts)
    able = dict.fromkeys(given, _MIN_ITEMS) | {word: counts[word] for word in varied}
    needed = _needed(parts, able, given, cuts)
    words = {word: counts.get(word, _MIN_ITEMS) for word in able if word in needed or not _is_katakana(word)}
    rests = (part for word in words if word not in given for part in _rests(word, words, counts))
    words |= {part: counts[part] for part in rests if part not in cuts}
    words = {word: n for word, n in words.items() if word in given or not _is_compound(word, words)}
    words = _needed(parts, words, given, cuts)
    return Lexicon(words, cuts)


def _is_katakana(word: str) -> bool:
    """Whether a word is written in syllables: many words share two or three of them and have nothing in common."""
    return "\u30a0" <= word[0] <= "\u30ff" or "\uff66" <= word[0] <= "\uff9f"


def _needed(parts: Counter[str], words: dict[str, int], given: Set[str], cuts: Set[str]) -> dict[str, int]:
    """The words, with their uses, that the most probable covers of the titles still need after a few rounds."""
    for _ in range(_ROUNDS if parts else 0):
        used: Counter[str] = Counter()
        for part, n in parts.items():
            used.update({part[a:b]: n for a, b in _cover(part, words, cuts) if b - a > 1})
        words = {word: used[word] for word in words if used[word] >= _MIN_ITEMS or word in given}
    return words


def _rests(word: str, words: Mapping[str, int], counts: Mapping[str, int]) -> Iterator[str]:
    """What is left of a word behind the longest, more frequent one that begins it, or before one that ends it."""
    cuts = range(2, len(word) - 1)
    begins = [at for at in cuts if words[word] < _INSIDE * words.get(word[:at], 0)]
    ends = [at for at in cuts if words[word] < _INSIDE * words.get(word[at:], 0)]
    rests = [word[max(begins) :]] if begins else []
    rests += [word[: min(ends)]] if ends else []
    yield from (rest for rest in rests if rest in counts)


def _candidates(parts: Counter[str]) -> tuple[dict[str, int], list[str]]:
    """Substrings that titles repeat, how often, and those of them that stand beside different characters.

    Each edge of a run counts as another character.
    """
    counts: dict[str, int] = {}
    words: list[str] = []
    shorter: Set[str] = set()
    for length in range(1, LONGEST + 1):
        found: Counter[str] = Counter()
        left: dict[str, Counter[str]] = defaultdict(Counter)
        right: dict[str, Counter[str]] = defaultdict(Counter)
        for part, n in parts.items():
            for start in range(len(part) - length + 1):
                word = part[start : start + length]
                if length == 1 or (word[1:] in shorter and word[:-1] in shorter):
                    found[word] += n
                    left[word][part[start - 1 : start]] += n
                    right[word][part[start + length : start + length + 1]] += n
        shorter = {word for word, n in found.items() if n >= _MIN_ITEMS}
        if length > 1:
            counts |= {word: found[word] for word in shorter}
            words += [word for word in shorter if _stands_alone(word, left[word], right[word])]
        if not shorter:
            break
    return counts, words


def _stands_alone(word: str, left: Counter[str], right: Counter[str]) -> bool:
    least = _MIN_VARIETY if script_of(word) == HAN else _MIN_VARIETY_OF_LETTERS
    return min(_variety(left), _variety(right)) >= least and not _TORN.search(word)


def _variety(beside: Counter[str]) -> int:
    return len(beside) - ("" in beside) + beside[""]


def _cover(part: str, words: Mapping[str, int], cuts: Set[str]) -> list[tuple[int, int]]:
    """The most probable cover of a text by words and single characters (Viterbi over a unigram model)."""
    total = math.log(sum(words.values()) + 2)
    cost, back = [0.0], [0]
    for end in range(1, len(part) + 1):
        best = (cost[end - 1] + 2 * total, end - 1)
        for start in range(max(0, end - LONGEST), end):
            word = part[start:end]
            if word in words and end - start > 1:
                best = min(best, (cost[start] + total - math.log(words[word] + 1), start))
            elif word in cuts:
                best = min(best, (cost[start] + total, start))
        cost.append(best[0])
        back.append(best[1])
    edges, at = [], len(part)
    while at:
        edges.append((back[at], at))
        at = back[at]
    return edges[::-1]


def _is_compound(word: str, words: Mapping[str, int]) -> bool:
    """Whether a word is put together from others, one of which mostly stands elsewhere."""
    reached = {(0, False)}
    for end in range(2, len(word) + 1):
        for start, elsewhere in tuple(reached):
            if end - start >= 2 and (part := word[start:end]) in words and part != word:
                reached.add((end, elsewhere or words[word] < _INSIDE * words[part]))
    return (len(word), True) in reached
