"""Every filter expression that is sent to Milvus is built here: values are data and never become syntax.

Template parameters would do the same, but Milvus Lite does not know them. So strings are quoted, with the five escapes
that the grammars of Milvus and Milvus Lite share. `tests/retrieval/test_awkward_expressions.py` holds it to Milvus
Lite's own parser and to a real collection, for any text.
"""

from collections.abc import Sequence

EVERY_KEY = 'key != ""'
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def quoted(text: str) -> str:
    """A string literal that means `text`."""
    return f'"{text.translate(_ESCAPES)}"'


def equals(field: str, value: str) -> str:
    """`field` is `value`."""
    return f"{field} == {quoted(value)}"


def among(field: str, values: Sequence[str]) -> str:
    """`field` is one of `values`, of which there must be one."""
    return f"{field} in [{', '.join(map(quoted, values))}]"


def after(field: str, value: str) -> str:
    """`field` comes after `value` in the order of its UTF-8 bytes."""
    return f"{field} > {quoted(value)}"


def between(field: str, least: float | None, most: float | None) -> list[str]:
    """The sides of a closed interval; none for a side that is open."""
    sides = ((">=", least), ("<=", most))
    return [f"{field} {sign} {float(value)!r}" for sign, value in sides if value is not None]


def all_of(parts: Sequence[str]) -> str:
    """All parts hold; without any, everything does (the empty expression)."""
    return " and ".join(parts)


def as_sent(expression: str, *, lite: bool) -> str:
    """The expression for the store that reads it.

    A Milvus server rewrites Chinese characters as `\\uXXXX` before it parses, and cuts those beyond U+FFFF to their
    last 16 bits. An expression that has such a character goes there in ASCII: outside of ASCII there are only
    strings, in which `\\uXXXX` and `\\UXXXXXXXX` are escapes. Milvus Lite knows neither, and needs neither.
    """
    if lite or all(character <= "\uffff" for character in expression):
        return expression
    return "".join(character if character.isascii() else _escaped(ord(character)) for character in expression)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
