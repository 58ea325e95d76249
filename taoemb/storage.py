"""Folders that appear whole or not at all, readable as the umask says, and a disk that refuses, told in one line.

Libraries write weights for their owner alone (0600), whatever the umask; in a pod another user must read them. And what
a full or read-only disk answers names a temporary file, or none.
"""

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taoemb.errors import InputError, TaoembError

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_CLOSED = frozenset((errno.EROFS, errno.EACCES, errno.EPERM))
_WRONG = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP))
_NUMBER = re.compile(r"\(os error (\d+)\)")  # how safetensors says it
_LONGEST_NAME = 150  # of a temporary folder's copy of the name, so that a long name stays valid


def refusal(place: object, error: OSError) -> TaoembError:
    """The one line about a file or folder that can't be read or written: InputError where another place would do."""
    why = os.strerror(error.errno) if error.errno is not None else str(error)
    if error.errno in _FULL:
        return TaoembError(f"{place}: {why}; free some space, or give another folder")
    if error.errno in _CLOSED:
        return InputError(f"{place}: {why}; give a folder that this user may write to, or change its rights")
    if error.errno in _WRONG:
        return InputError(f"{place}: {why}; give another path")
    return TaoembError(f"{place}: {why}")


@contextmanager
def writing(place: Path, *others: type[Exception], partial: Path | None = None) -> Iterator[None]:
    """Tell a refusal of the disk inside as one of `place`.

    `others` are what a library raises in place of an OSError, with its number in the text (safetensors); `partial` is
    the temporary place that is written to. An OSError about a file elsewhere, which was only read, passes as it is.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno not in _FULL | _CLOSED:
            raise
        if error.filename is not None and not _belongs(Path(os.fsdecode(error.filename)), place, partial):
            raise
        raise refusal(place, error) from error
    except others as error:
        number = _NUMBER.search(str(error))
        if number is None:
            raise
        raise refusal(place, OSError(int(number[1]), str(error))) from error


def check_writable(out: Path) -> None:
    """Raise InputError when the folder `out` could not be made or written to; nothing is made."""
    place = out.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise refusal(out, NotADirectoryError(errno.ENOTDIR, ""))
    if not os.access(place, os.W_OK | os.X_OK):
        read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        raise refusal(out, OSError(errno.EROFS if read_only else errno.EACCES, ""))


@contextmanager
def new_folder(out: Path, *others: type[Exception]) -> Iterator[Path]:
    """Yield an empty folder that becomes `out` (replacing it) when the block ends without an error.

    Otherwise `out` is as it was, and folders that were made for it are gone. Raises the one line of :func:`writing`.
    """
    mark, name = uuid.uuid4().hex[:8], out.name[:_LONGEST_NAME]
    fresh, old = (out.parent / f".{name}.{mark}.{kind}" for kind in ("new", "old"))
    made = [folder for folder in out.parents if not folder.exists()]  # the innermost first
    try:
        with writing(out, *others, partial=fresh):
            out.parent.mkdir(parents=True, exist_ok=True)
            fresh.mkdir()
            yield fresh
            share(fresh)
            _replace(out, fresh, old)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        for folder in made:
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def share(folder: Path) -> None:
    """Let whoever may read `folder` read what is in it: the mode that the umask gave the folder, for files too."""
    given = stat.S_IMODE(folder.stat().st_mode)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            _let(path, given if path.is_dir() else given & 0o666)


def share_file(path: Path) -> None:
    """Give a file that a library made the mode of a file that is made here."""
    probe = path.with_name(f".{uuid.uuid4().hex[:8]}.mode")
    probe.touch()
    try:
        _let(path, stat.S_IMODE(probe.stat().st_mode))
    finally:
        probe.unlink()


def _let(path: Path, mode: int) -> None:
    """A hard link to another user's file keeps its mode."""
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & mode != mode and found.st_uid == os.geteuid():
        path.chmod(stat.S_IMODE(found.st_mode) | mode)


def _replace(out: Path, fresh: Path, old: Path) -> None:
    if not out.is_dir():
        fresh.rename(out)
        return
    out.rename(old)
    try:
        fresh.rename(out)
    except OSError:
        old.rename(out)
        raise


def _belongs(path: Path, place: Path, partial: Path | None) -> bool:
    """Whether a path lies in `place` or its `partial`, or is a folder above that could not be made."""
    path, places = path.absolute(), [one.absolute() for one in (place, partial) if one is not None]
    return any(path.is_relative_to(one) or one.is_relative_to(path) for one in places)
