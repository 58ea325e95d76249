"""Guards the folders that judge commands write: what they replace must be their own."""

from collections.abc import Collection
from pathlib import Path

from taoemb.errors import InputError
from taoemb.storage import check_writable


def check_out(out: Path, own: Collection[str]) -> None:
    """Raise InputError when `out` is a file, holds anything but the files `own` of an earlier run, or can't be written.

    Asked before the work, which may take an hour.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; give a folder")
    strangers = sorted(path.name for path in out.iterdir() if path.name not in own) if out.is_dir() else []
    if strangers:
        raise InputError(f"--out {out}: holds {strangers[0]!r}, which this command does not write; give a new folder")
    check_writable(out)
