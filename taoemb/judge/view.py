"""What the cross-encoder reads of an item: the parts that this query is about.

A small transformer is slow on long texts, and an item can have a hundred attributes. The item's text (of
`prompt.item_text`, a field a line) is cut to a budget: title, brand, category and price first, then the attributes that
share a word with the query, the description around such a word, and the first other attributes.
"""

import re

_WORD = re.compile(r"\w+")
_FILLERS = frozenset(
    "a an and are at by for from i in is it me my of on or that the this to with".split()  # noqa: SIM905
)
_HEAD = ("title", "brand", "category", "price")
_TITLE_SHARE, _DESCRIPTION_SHARE = 0.6, 0.5
_STATIC = 160  # characters of the description in the static view
_LEAD = 40  # characters of the description kept before the first word that the query shares


def focus(query: str, item_text: str, characters: int) -> str:
    """One line of at most about `characters` characters for this query; text in any other form is cut to it."""
    fields = _fields(item_text)
    if "title" not in fields:
        return " ".join(item_text.split())[:characters]
    wanted = _words(query) - _FILLERS
    title = fields["title"][: max(int(characters * _TITLE_SHARE), characters - 80)]
    parts, left = [title], characters - len(title)
    for name in _HEAD[1:]:
        value = fields.get(name, "")
        if value and not _words(value) <= _words(title) and len(value) + 9 < left:
            parts.append(value if name != "price" else f"price {value}")
            left -= len(parts[-1]) + 2
    entries = [entry for entry in fields.get("attributes", "").split("; ") if entry]
    shared = [entry for entry in entries if wanted & _words(entry)]
    left = _add(parts, shared, left)
    description = fields.get("description", "")
    new = not _words(description) <= _words(title)
    window = _window(description, wanted, int(left * _DESCRIPTION_SHARE)) if new else ""
    if window:
        parts.append(window)
        left -= len(window) + 2
    _add(parts, [entry for entry in entries if entry not in shared], left)
    return ". ".join(parts)


def static(item_text: str) -> str:
    """Title, category and the beginning of the description: the same for every query."""
    fields = _fields(item_text)
    if "title" not in fields:
        return " ".join(item_text.split())[:_STATIC]
    title, description = fields["title"], fields.get("description", "")
    parts = [title]
    parts += [fields["category"]] if fields.get("category") else []
    parts += [description[:_STATIC]] if not _words(description) <= _words(title) else []
    return ". ".join(parts)


def _fields(item_text: str) -> dict[str, str]:
    lines = (line.partition(": ") for line in item_text.split("\n"))
    return {name: value for name, colon, value in lines if colon}


def _words(text: str) -> set[str]:
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in _WORD.findall(text.lower())}


def _add(parts: list[str], entries: list[str], left: int) -> int:
    for entry in entries:
        if len(entry) + 2 <= left:
            parts.append(entry)
            left -= len(entry) + 2
    return left


def _window(text: str, wanted: set[str], length: int) -> str:
    """The part of `text` around the first word of `wanted` that its beginning doesn't show."""
    if length < 16:
        return ""
    if len(text) <= length or wanted & _words(text[:length]):
        return text[:length]
    start = next((word.start() for word in _WORD.finditer(text) if _words(word.group()) & wanted), 0)
    return text[max(0, start - _LEAD) :][:length]
