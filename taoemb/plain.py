"""Text from data on a terminal or in a log: shown as it is, and never able to steer either.

A title may hold `[b]`, an escape sequence, a line break or a change of writing direction. Whoever prints such a text
sends it through `one_line`; tables do so in `taoemb.cli.common.emit`.
"""

import logging
import re

from taoemb.limits import CONTROLS

_DIRECTION = "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates, which reorder what follows
_STEERING = re.compile(f"[{CONTROLS}{_DIRECTION}\ud800-\udfff]")
_PASSWORD = re.compile(r"(://[^\s:/@]*):(?!\d+[/?])[^\s'\"]+@")
_NAMED = re.compile(r"(?i)(\b(?:ssl)?password|\bpasswd|\bpwd|\btoken|\bsecret|\bapi_key)=[^\s&;,'\"]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic) +[^\s'\",]{8,}")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str) -> str:
    """The text with a visible escape (`\\n`, `\\x1b`, `\\u202e`) for each character that would steer a terminal."""
    return _STEERING.sub(lambda match: _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")


def without_secrets(text: str) -> str:
    """The text with *** for what looks like a password in an address, or is named as a secret.

    Whoever writes a message keeps secrets out of it. This is for the words of libraries, and for settings that a
    mistake puts where they are quoted.
    """
    return _BEARER.sub(r"\1 ***", _NAMED.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", text)))


class _CarefulRecord(logging.LogRecord):
    def getMessage(self) -> str:
        """As logging's, without secrets."""
        return without_secrets(super().getMessage())


def keep_secrets_out_of_logs() -> None:
    """From now on, whatever this process logs, through whichever library."""
    logging.setLogRecordFactory(_CarefulRecord)
