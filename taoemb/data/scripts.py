"""Which script a text is written in, and what a word is in each: some scripts put no spaces between words.

Python's `\\w` leaves out vowel signs and other marks, which would cut Thai, Hindi or Arabic words to pieces.
"""

import unicodedata
from collections import Counter
from functools import cache

LATIN, HAN = "LATIN", "HAN"
_ONE_SCRIPT = {"CJK": HAN, "HIRAGANA": HAN, "KATAKANA": HAN, "BOPOMOFO": HAN, "IDEOGRAPHIC": HAN}
_FOREIGN = 0.25  # share of letters that makes a title one of that script: brands and models are Latin everywhere

SPACELESS = (  # letters and marks of scripts whose words touch, as a class of a regular expression
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u103f\u1050-\u109f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3041-\u3096\u3099-\u309f\u30a0-\u30fa\u30fc-\u30ff\u3100-\u312f\u31f0-\u31ff"  # kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"  # ideographs
)


@cache
def marks(first: int = 0x0300, last: int = 0xABFF) -> str:
    """Combining marks between two code points, as a class of a regular expression."""
    return "".join(c for c in map(chr, range(first, last + 1)) if unicodedata.category(c)[0] == "M")


@cache
def script_of_letter(letter: str) -> str | None:
    """LATIN, CYRILLIC, ARABIC, HAN (with kana) …, the first word of the letter's Unicode name; None: no letter."""
    if not letter.isalpha():
        return None
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "")
    first = name.replace("-", " ").split(" ")[0]
    return _ONE_SCRIPT.get(first, first) or None


def script_of(text: str) -> str | None:
    """The script of a title: the most frequent one beside Latin where it holds a quarter of the letters, else Latin.

    None where there are no letters.
    """
    if text.isascii():
        return LATIN if any(map(str.isalpha, text)) else None
    counts = Counter(script for letter in text if (script := script_of_letter(letter)))
    if not counts:
        return None
    others = {script: n for script, n in counts.items() if script != LATIN}
    if others and sum(others.values()) >= _FOREIGN * counts.total():
        return max(others, key=lambda script: (others[script], script))
    return LATIN


def is_latin(text: str) -> bool:
    """Whether every letter of a text is Latin."""
    return text.isascii() or all(script_of_letter(letter) in (LATIN, None) for letter in text)
