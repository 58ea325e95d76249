"""Writes the files of a report together or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taoemb.errors import InputError
from taoemb.storage import share, writing


@contextmanager
def new_files(out: Path) -> Iterator[Path]:
    """Yield a folder whose files move to `out` when the block ends without an error; other files there stay.

    Raises InputError at once when `out` is a file or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; give a folder")
    partial = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            partial = out / partial.name
        partial.mkdir()
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error}); give another folder") from None
    try:
        with writing(out, partial=partial):
            yield partial
            share(partial)
            out.mkdir(exist_ok=True)
            for file in sorted(partial.iterdir()):
                file.replace(out / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
