"""Publishing a million items: what the pipeline itself takes, without a store.

    python -m benchmarks.speed.publish_million [--quick]        # about six minutes

Not part of `make bench`. Milvus Lite holds its rows in the publishing process, some 27 MB for a thousand of them
(`benchmarks.speed.publish`): a million need more memory than a small machine has, and a Milvus server. What is measured
is all that publish does but storing: read, hash, embed (one layer of random weights), make rows. Each size is a process
of its own.
"""

import tempfile
from pathlib import Path

from benchmarks.record import Record, Table, options
from benchmarks.speed.publish import in_process, make_catalogue, make_release, memory_aim

SIZES = {True: (2000, 40_000), False: (20_000, 1_000_000)}  # quick, or not


def main(quick: bool) -> None:
    """Measure, print, and keep."""
    record = Record(__file__, "Publishing a million items, without a store")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_release(folder / "tiny", "tiny")
        runs = {}
        for size in SIZES[quick]:
            data = make_catalogue(folder / f"{size}", size)
            runs[size] = in_process("pipeline", str(folder / "tiny"), str(data))
    rows = [
        [
            f"{size:,}",
            f"{run['publish']:,.0f}",
            f"{size / run['publish']:,.0f}",
            f"{run['most_mb'] - run['before_mb']:,.0f}",
            f"{run['hashed'] / size * 1e6:.1f}",
        ]
        for size, run in runs.items()
    ]
    head = ["items", "seconds", "items/s", "memory, MB", "hashing, µs an item"]
    text = "Memory: the greatest anonymous memory above what the process had before; the catalogue is a mapped file."
    record.tables = [Table("The pipeline alone, tiny encoder", head, rows, text)]
    record.aims = [memory_aim(runs)]
    record.finish(save=not quick)


if __name__ == "__main__":
    main(options(__doc__).parse_args().quick)
