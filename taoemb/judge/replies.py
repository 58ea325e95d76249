"""What a judge's server said when it gave no grades: worth another try, refused, or no connection, in its own words.

A server may fail with any status, with 200 and an error in the body, or with a page of a proxy. Its own words go into
every message, because they name the cause: a quota, a model name, an overlong prompt.
"""

import json
import math
import os
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from taoemb.judge.answers import shortened

CONNECT_S = 10.0
_WORDS = 200  # characters of what a server says
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")


class Transient(Exception):
    """A failure worth another try. `away`: it can't be this request's fault. `after_s`: the server asked to wait."""

    def __init__(self, reason: str, *, away: bool, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.away, self.after_s = away, after_s


class Refused(Exception):
    """The judge answered that it will not take this request (HTTP 4xx). `status` is the code."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    retry_after: str
    content: bytes

    @property
    def detail(self) -> str:
        """Status and the beginning of what the server says, on one line."""
        return f'HTTP {self.status} "{words(self.content)}"' if self.content.strip() else f"HTTP {self.status}"

    def check(self) -> None:
        """Raise Transient or Refused when the status is that of a failure."""
        if self.status >= 300:
            raise failure(self.status, self.detail, seconds_to_wait(self.retry_after))

    def json(self) -> Any:
        """The body. Raises Transient when it is no JSON: half an answer, or a page of something on the way."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            raise Transient(f"{self.detail} is no JSON", away=False) from None

    def completion(self) -> Any:
        """The body of a chat completion. Raises Transient or Refused when it holds an error in place of choices."""
        body = self.json()
        if isinstance(body, dict) and "choices" not in body:
            error = body.get("error")
            code = error.get("code") if isinstance(error, dict) else body.get("code")
            status = int(code) if isinstance(code, int | str) and re.fullmatch("4[0-9]{2}", str(code)) else 500
            raise failure(status, self.detail, None)
        return body


def failure(status: int, detail: str, after_s: float | None) -> Transient | Refused:
    """What a failing status means for the request."""
    if status in (408, 429) or status >= 500:
        return Transient(detail, away=status in (429, 502, 503), after_s=after_s)
    return Refused(detail, status)


def words(content: bytes) -> str:
    """What a body says: its error message where it has one, else its beginning; one line."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    error = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(error, dict):
        error = next((error[name] for name in ("message", "detail", "msg") if isinstance(error.get(name), str)), None)
    return shortened(error if isinstance(error, str) else content[: 4 * _WORDS].decode(errors="replace"), _WORDS)


def network_failure(error: aiohttp.ClientError | OSError, timeout_s: float) -> Transient:
    """Why no answer came, in words; a request that only took too long may be its own fault."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Transient(f"no connection within {min(timeout_s, CONNECT_S):g} s", away=True)
    if isinstance(error, TimeoutError):
        return Transient(f"no answer within judge.timeout_s={timeout_s:g} s", away=False)
    return Transient(_network_words(error), away=True)


def _network_words(error: aiohttp.ClientError | OSError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"TLS: {shortened(str(error.certificate_error), _WORDS)}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"{error.host}: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"TLS: {shortened(str(error.os_error), _WORDS)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return os.strerror(number) if number else shortened(str(error.os_error), _WORDS)
    return shortened(f"{type(error).__name__}: {error}".rstrip(": "), _WORDS)


def seconds_to_wait(retry_after: str, now: float | None = None) -> float | None:
    """Seconds (> 0, finite) that a Retry-After header asks for, as a number or a date; None when it asks for nothing.

    `now` is the time of day in seconds of the epoch.
    """
    text = retry_after.strip()
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    else:
        try:
            date = parsedate_to_datetime(text)
            seconds = date.timestamp() - (time.time() if now is None else now)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(seconds, 1e9) if seconds > 0 and not math.isnan(seconds) else None
