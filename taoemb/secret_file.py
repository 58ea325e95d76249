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


def read_secret(file: Path, setting: str) -> str:
    """The secret in a file: one line of ASCII, as a header can carry it. Raises InputError, which never shows it."""
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"{setting} {file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        secret = ""
    if not secret or not secret.isascii() or not secret.isprintable():
        raise InputError(f"{setting} {file}: expected one line with the secret, in ASCII")
    return secret


def tester_headers(file: Path | None) -> dict[str, str]:
    """The header that a tester sends; none without a file. Raises InputError when it can't be read."""
    return {} if file is None else {TESTER_HEADER: read_secret(file, "gateway.tester_token_file")}
