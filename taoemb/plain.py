"""Text from data on a terminal or in a log: shown as it is, and never able to steer either.

A title may hold `[b]`, an escape sequence, a line break or a change of writing direction. Whoever prints such a text
sends it through `one_line`; tables do so in `taoemb.cli.common.emit`.
"""

import re

from taoemb.limits import CONTROLS

_DIRECTION = "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates, which reorder what follows
_STEERING = re.compile(f"[{CONTROLS}{_DIRECTION}\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str) -> str:
    """The text with a visible escape (`\\n`, `\\x1b`, `\\u202e`) for each character that would steer a terminal."""
    return _STEERING.sub(lambda match: _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")
