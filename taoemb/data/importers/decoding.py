"""Text files as lines: the encoding is what a byte-order mark says, else UTF-8, else what the user names."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path

from taoemb.data.importers.containers import unpacked
from taoemb.errors import InputError

# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SAMPLE = 4096


def text_lines(path: Path, encoding: str | None = None, newline: str = "") -> Iterator[str]:
    """Yield the lines of a text file, packed or not, with their ends; `newline` as in `open`.

    Raises InputError naming the line that is not text in that encoding.
    """
    with unpacked(path) as stream:
        used = _encoding(path, stream.read(_SAMPLE), encoding)
    done = 0
    with unpacked(path) as stream, io.TextIOWrapper(stream, used, newline=newline) as lines:
        try:
            for line in lines:
                done += 1
                yield line
        except UnicodeError as error:
            raise _not_text(path, used, done, error) from None


def check_encoding(name: str) -> None:
    """Raise InputError when Python knows no text encoding of that name."""
    try:
        "e".encode(name)
    except (LookupError, UnicodeError, ValueError):
        raise InputError(f"--encoding {name!r}: not a known encoding; e.g. utf-8, latin-1, cp1252, utf-16-le") from None


def _encoding(path: Path, sample: bytes, named: str | None) -> str:
    """A mark says what the file is, so it counts more than the option, which holds for several files."""
    if not sample:
        raise InputError(f"{path}: is empty")
    for mark, name in _MARKS.items():
        if sample.startswith(mark):
            return name
    if named is None and b"\0" in sample:
        guess = "utf-16-le" if sample.find(b"\0") % 2 else "utf-16-be"
        raise InputError(
            f"{path}: holds NUL bytes, so it is no UTF-8 text; if it is UTF-16, say so: --encoding {guess}"
        )
    return named or "utf-8"


def _not_text(path: Path, encoding: str, done: int, error: UnicodeError) -> InputError:
    if encoding in ("utf-8", "utf-8-sig"):
        line, byte = _bad_line(path, encoding)
        return InputError(
            f"{path}: line {line}: is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8, or say what it is: "
            "--encoding latin-1 (or cp1252, …)"
        )
    why = " ".join(str(error.args[-1] if error.args else error).split())
    return InputError(f"{path}: after line {done}: is not {encoding} text ({why}); name another --encoding")


def _bad_line(path: Path, encoding: str) -> tuple[int, int]:
    """The first line with a byte that is not UTF-8, and the byte."""
    with unpacked(path) as stream:
        lines = io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline="")
        for number, line in enumerate(lines, 1):
            for character in line:
                if "\udc80" <= character <= "\udcff":
                    return number, ord(character) - 0xDC00
    return 0, 0
