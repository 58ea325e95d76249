r"""Patterns of a plan's slices, matched by RE2 in time linear in the query's length, whatever the pattern.

Whoever may write a plan may not stop the controller with `(a+)+$`. What RE2 can't do in linear time (look-around,
backreferences) is refused, and so is what it would silently read in another way than Python's `re`, which plans were
written for: `\w`, `\d` and `\s` mean letters, digits and spaces of all languages here, as they did; `\b` knows ASCII
letters only and is refused beside others.
"""

import re
from collections.abc import Callable

import re2

MAX_CHARACTERS = 1000
"""Longest pattern."""
_TOKEN = re.compile(r"\\.|\[\^?\]?|\]|\{,|.", re.DOTALL)
_CLASSES = {"\\w": r"\p{L}\p{N}_", "\\d": r"\p{Nd}", "\\s": r"\s\p{Z}\x{85}"}
_NEGATED = {"\\W": r"[^\p{L}\p{N}_]", "\\D": r"\P{Nd}", "\\S": r"[^\s\p{Z}\x{85}]"}
_END = {"\\Z": r"\z"}


def query_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a query matches somewhere, in any case. Raises ValueError with what is wrong with the pattern."""
    if len(pattern) > MAX_CHARACTERS:
        raise ValueError(f"the pattern has {len(pattern):,} characters, at most {MAX_CHARACTERS:,}")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        compiled = re2.compile(_translated(pattern), options)
    except re2.error as error:
        told = error.args[0] if error.args else error
        told = told.decode(errors="replace") if isinstance(told, bytes) else told
        raise ValueError(
            f"{pattern!r} can't be matched in linear time (RE2: {told}): no look-around, no backreferences"
        ) from None
    return lambda text: compiled.search(text) is not None


def _translated(pattern: str) -> str:
    """The pattern as RE2 reads it in the sense of `re`. Raises ValueError for what it would read in another one."""
    told, inside = [], False
    for part in _TOKEN.findall(pattern):
        if not inside and part.startswith("["):
            inside = True
        elif inside and part == "]":
            inside = False
        if part in _CLASSES:
            part = _CLASSES[part] if inside else f"[{_CLASSES[part]}]"
        elif part in _NEGATED:
            if inside:
                raise ValueError(f"{pattern!r}: {part} inside [...] is not supported; name what is meant")
            part = _NEGATED[part]
        elif part in ("\\b", "\\B") and not pattern.isascii():
            raise ValueError(
                f"{pattern!r}: {part} knows ASCII letters only; write (^|[^\\w]) or ([^\\w]|$) in its place"
            )
        elif part == "{," and not inside:
            raise ValueError(f"{pattern!r}: write {{0,n}} in place of {{,n}}")
        told.append(_END.get(part, part))
    return "".join(told)
