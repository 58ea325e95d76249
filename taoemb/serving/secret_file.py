"""Secrets in files: made where a machine needs one of its own, and read without ever being shown."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from taoemb.errors import InputError

TESTER_HEADER = "x-taoemb-tester"
"""Header that carries the testers' token."""


def make_secret(file: Path) -> Path:
    """Write a random secret that only this user may read, unless the file is there. Processes may do so at once.

    Raises InputError when it can't be written.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            return file
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(secrets.token_hex(32) + "\n")
        with suppress(FileExistsError):  # another process was first: its secret is everybody's
            os.link(partial, file)
        partial.unlink()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; a secret must be kept there") from None
    return file


def read_token(file: Path | None, setting: str = "gateway.tester_token_file") -> str | None:
    """The token in a file; None without a file. Raises InputError when it can't be read."""
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"{setting} {file}: {reason or error}") from None


def tester_headers(file: Path | None) -> dict[str, str]:
    """The header that a tester sends; none without a file. Raises InputError when it can't be read."""
    token = read_token(file)
    return {} if token is None else {TESTER_HEADER: token}
