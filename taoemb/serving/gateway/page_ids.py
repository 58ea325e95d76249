"""Request ids that prove that a gateway served the page: events are taken for these only.

An id is 8 hex digits of Unix seconds, 24 of chance, and 24 of an HMAC-SHA256 over both (96 bits, RFC 2104 section 5 on
truncation). So nobody who was not served a page can count as its shopper, and no gateway has to remember its pages:
those that share the key's file take each other's.
"""

import hmac
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from taoemb.errors import InputError
from taoemb.secret_file import make_secret

_TIME, _CHANCE, _PROOF = 8, 24, 24  # hex digits
_SIGNED = _TIME + _CHANCE
_AHEAD_S = 300.0  # another gateway's clock may be ahead by this
_READ_S = 5.0  # how often the key's file is read again
MIN_KEY = 16
"""Fewest bytes of a key."""
_log = logging.getLogger(__name__)
Refusal = Literal["unsigned", "old"]


class PageIds:
    """Makes and checks request ids. The file holds one key a line: the first signs, any of them proves.

    It is read again every few seconds, so a key is changed without a restart: add the new one below, wait until every
    gateway has it, move it to the top, and take the old one away once its pages are old. Raises InputError for a file
    that can't be read or whose keys are short.
    """

    def __init__(self, file: Path, age_s: float, clock: Callable[[], float] = time.time) -> None:
        """`age_s`: how long after its page an event is taken."""
        self._file, self._age_s, self._clock = file, age_s, clock
        self._keys = _read(file)
        self._read_at = time.monotonic()

    def new(self) -> str:
        """The id of a page that is served now."""
        signed = f"{int(self._clock()) & 0xFFFFFFFF:0{_TIME}x}{secrets.token_hex(_CHANCE // 2)}"
        return signed + _proof(self._fresh()[0], signed)

    def problem(self, request_id: str) -> Refusal | None:
        """Why no event is taken for it; None for a page that a gateway with these keys served not too long ago."""
        signed, proof = request_id[:_SIGNED], request_id[_SIGNED:]
        if len(request_id) != _SIGNED + _PROOF or not request_id.isascii():
            return "unsigned"
        if not any(hmac.compare_digest(_proof(key, signed), proof) for key in self._fresh()):
            return "unsigned"
        age_s = self._clock() - int(signed[:_TIME], 16)
        return None if -_AHEAD_S <= age_s <= self._age_s else "old"

    def _fresh(self) -> tuple[bytes, ...]:
        now = time.monotonic()
        if now - self._read_at > _READ_S:
            self._read_at = now
            try:
                self._keys = _read(self._file)
            except InputError as error:
                _log.error("%s; the keys that were read before stay", error)
        return self._keys


def key_file(given: Path | None, spool: Path) -> Path:
    """The file of the keys: `gateway.page_key_file`, else one of this machine's own in the spool, made when missing."""
    return given if given is not None else make_secret(spool / "page-key")


def _proof(key: bytes, signed: str) -> str:
    return hmac.digest(key, signed.encode(), "sha256")[: _PROOF // 2].hex()


def _read(file: Path) -> tuple[bytes, ...]:
    try:
        keys = tuple(line.strip() for line in file.read_bytes().splitlines() if line.strip())
    except OSError as error:
        raise InputError(f"gateway.page_key_file {file}: {error.strerror or error}") from None
    if not keys or min(map(len, keys)) < MIN_KEY:
        raise InputError(f"gateway.page_key_file {file}: needs a key of {MIN_KEY} bytes or more on each line")
    return keys
