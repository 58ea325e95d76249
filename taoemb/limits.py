"""How long ids and texts may be and which characters an id may hold: one place, which every part reads.

A dataset that is longer than a later part can hold would be found out by that part: by the vector store after an hour
of embedding, or by an event that is never counted. So the dataset is held to what all of them can take.

Milvus counts a VARCHAR in bytes, PostgreSQL in characters. Ids are limited in bytes of UTF-8, which are never fewer
than characters. Light on purpose: settings read it too.
"""

import re

ID_BYTES = 512
"""Longest item id and query id, in bytes of UTF-8."""
TITLE_BYTES, BRAND_BYTES, CATEGORY_BYTES = 2048, 512, 1024
"""What the vector store keeps to show and to filter by, in bytes of UTF-8: longer ones are embedded whole, kept cut."""
QUERY_CHARACTERS = 4000
"""Longest text of a query, in characters."""
UNIT_CHARACTERS = 256
"""Longest name of a user or session, in characters."""
EVENT_ID_CHARACTERS = 64
"""Longest id of a request or of an event, in characters."""
EVENT_VALUE = 1e12
"""Largest value of an event, e.g. of a purchase's price in the smallest currency; the smallest is 0."""
ANSWERS = 16_384
"""Most items of one answer of Milvus."""
SIGNAL_NAME = r"signal_[A-Za-z0-9_]{1,64}"
"""Names of quality signals that the vector store keeps, a regular expression."""

CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029"
"""Control characters and line breaks of every kind, as the inside of a regular expression's [...]: they end a line of a
log or of a table, and PostgreSQL keeps no NUL."""
ID = re.compile(f"[^{CONTROLS}]+")
"""Characters of an id, of a unit, and of a brand or category that is filtered by."""

TOO_LONG_ID = f"is longer than {ID_BYTES} bytes"
CONTROL_IN_ID = "has a control character or a line break"
TOO_LONG_QUERY = f"is longer than {QUERY_CHARACTERS:,} characters"
NUL_IN_QUERY = "has a NUL character"


def id_problem(text: str) -> str | None:
    """What is wrong with an item id or a query id; None when every part can hold it."""
    if not text.strip():
        return "is empty"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "is not valid UTF-8 text"
    if len(text.encode()) > ID_BYTES:
        return TOO_LONG_ID
    return None if ID.fullmatch(text) else CONTROL_IN_ID


def without_controls(text: str) -> str:
    """The text with a space in place of each control character and line break."""
    return re.sub(f"[{CONTROLS}]", " ", text)


def cut(text: str, limit: int) -> str:
    """The longest start of `text` that fits into `limit` bytes of UTF-8."""
    return text if len(text) * 4 <= limit else text.encode()[:limit].decode(errors="ignore")
