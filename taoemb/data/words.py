"""Words of a text as the data room compares them: lowercase tokens, light plural stemming, near-duplicate keys."""

import re
import unicodedata

from taoemb.data.scripts import marks

_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['’][^\W_]+)?")
_VOWEL_SIGNS = marks(0x0483, 0x1AAF)  # and other marks inside the words of Hindi, Thai, Arabic …: `\w` leaves them out
_MARKED = re.compile(f"\\d+(?:[.,]\\d+)+|[^\\W_](?:[^\\W_]|[{_VOWEL_SIGNS}])*(?:['’](?:[^\\W_]|[{_VOWEL_SIGNS}])+)?")
_FILLERS = frozenset(["a", "an", "and", "are", "for", "i", "in", "is", "me", "my", "of", "on", "or", "the", "to"])


def tokens(text: str) -> list[str]:
    """Lowercase words and numbers of a text; letters and digits that touch stay together ("wh1000" is one token)."""
    return (_WORD if text.isascii() else _MARKED).findall(unicodedata.normalize("NFKC", text).casefold())


def stem(word: str) -> str:
    """Take an English plural's ending away ("batteries" → "battery", "boxes" → "box", "cables" → "cable")."""
    if not word.isalpha() or word.endswith(("ss", "us", "is")) or (len(word) < 4 and set(word) & set("aeiou")):
        return word  # "gas" stays, "tvs" does not
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and len(word) > 2 else word


def stems(text: str) -> list[str]:
    """The distinct words of a text, stemmed, in order."""
    return list(dict.fromkeys(stem(word) for word in tokens(text)))


def near_duplicate_key(text: str) -> tuple[str, ...]:
    """Equal for texts that differ only in case, word order, plurals, punctuation, repeated or filler words."""
    words = tokens(text)
    return tuple(sorted({stem(word) for word in words if word not in _FILLERS} or set(words)))
