"""Opens what a file is packed in (gzip, bzip2, xz, a zip of one member): by its first bytes, whatever its name says."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from taoemb.errors import InputError

_PACKED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_ZIP = b"PK\x03\x04"
_FOREIGN = {
    b"PAR1": "is a Parquet file; use `taoemb data import parquet`",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook; save it as CSV (UTF-8)",
    b"\x28\xb5\x2f\xfd": "is packed with zstd; unpack it first",
    b"PK\x05\x06": "is an empty zip archive",
    b"%PDF": "is a PDF file; give a text file",
}
_UNPACKING = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError)


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Yield the bytes inside a file. Raises InputError when it can't be opened, is cut off or not a table's text."""
    try:
        with path.open("rb") as file:
            magic = file.read(8)
        for start, complaint in _FOREIGN.items():
            if magic.startswith(start):
                raise InputError(f"{path}: {complaint}")
        with _opened(path, magic) as stream:
            yield stream
    except _UNPACKING as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be unpacked ({why}); is it whole? Unpack it first") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _opened(path: Path, magic: bytes) -> IO[bytes]:
    if magic.startswith(_ZIP):
        return _member(path)
    for start, opener in _PACKED.items():
        if magic.startswith(start):
            return opener(path)
    return path.open("rb")


def _member(path: Path) -> IO[bytes]:
    """The only file in a zip archive."""
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    if "[Content_Types].xml" in names:
        raise InputError(f"{path}: is an Excel workbook; save it as CSV (UTF-8)")
    members = [
        one
        for one in archive.infolist()
        if not one.is_dir() and not one.filename.startswith("__MACOSX/") and not one.filename.endswith(".DS_Store")
    ]
    if len(members) != 1:
        shown = ", ".join(repr(one.filename) for one in members[:3]) or "none"
        raise InputError(f"{path}: this zip archive holds {len(members)} files ({shown}), not one; unpack it first")
    if members[0].flag_bits & 1:
        raise InputError(f"{path}: is encrypted; unpack it first")
    return archive.open(members[0])
