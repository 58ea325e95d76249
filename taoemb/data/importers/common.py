"""What the importers share: checked columns, ids seen so far, and a last look at what was written."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taoemb.data.checks import Violation
from taoemb.data.doubts import Doubt
from taoemb.data.files import check_target, new_folder
from taoemb.data.markup import plain_column
from taoemb.data.schemas import JUDGMENTS, PAIRS, file_name
from taoemb.data.validate import validate
from taoemb.errors import InputError

BATCH_ROWS = 65_536


@contextmanager
def import_into(
    out: Path,
    source: Path,
    *others: Path,
    explain: Callable[[Violation], str] | None = None,
    doubts: list[Doubt] | None = None,
) -> Iterator[Path]:
    """Yield a folder that becomes `out` if what is written there keeps the contract. Raises InputError otherwise.

    `explain` words a violation as one of the source's own file and line; `doubts` gets what is doubtful about the data.
    """
    check_target(out, source, *others)
    with new_folder(out) as folder:
        yield folder
        report = validate(folder)
        if not report.ok:
            more = f" (and {report.violation_count - 1} more)" if report.violation_count > 1 else ""
            if explain is not None:
                raise InputError(f"{explain(report.violations[0])}{more}; mend the source")
            raise InputError(f"{source}: its data breaks the contract: {report.violations[0]}{more}; mend the source")
        if doubts is not None:
            doubts += report.warnings


def need_files(source: Path, names: Sequence[str]) -> list[Path]:
    """The files of a published layout. Raises InputError naming the first that is missing."""
    for name in names:
        if not (source / name).is_file():
            raise InputError(f"{source / name}: no such file; the folder must hold {', '.join(names)}")
    return [source / name for name in names]


def parquet_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Stream columns of a Parquet file, each as text. Raises InputError when it is none, or lacks a column."""
    try:
        with pq.ParquetFile(path) as parquet:
            names = parquet.schema_arrow.names
            for name in columns:
                if names.count(name) != 1:
                    problem = "stands more than once" if name in names else "is missing"
                    raise InputError(f"{path}: column {name!r} {problem}; it has {', '.join(map(repr, names))}")
            for batch in parquet.iter_batches(BATCH_ROWS, columns=list(columns)):
                texts = {name: _text_of(batch.column(name), path, name) for name in columns}
                yield pa.RecordBatch.from_pydict(texts)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error


def _text_of(column: pa.Array, path: Path, name: str) -> pa.Array:
    """A column as trimmed strings; empty ones and a float's NaN are null. Raises InputError when it holds no text."""
    try:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        if pa.types.is_floating(column.type):  # pandas makes whole numbers floats where one is missing
            column = pc.if_else(pc.is_nan(column), None, column)
            whole = column.cast(pa.int64(), safe=False)
            column = whole if pc.all(pc.equal(whole.cast(column.type), column)).as_py() is not False else column
        column = column.cast(pa.string())
        column.validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: column {name!r} cannot be read as text ({reason})") from error
    column = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(pc.binary_length(column), 0), None, column)


def without_markup(column: pa.Array, raw_text: bool) -> pa.Array:
    """A column of texts without HTML unless it is to stay; what then holds nothing is null."""
    if raw_text:
        return column
    column = plain_column(column)
    return pc.if_else(pc.equal(pc.binary_length(column), 0), None, column)


def grades_of(labels: pa.Array, grades: dict[str, int], path: Path, column: str, start: int) -> pa.Array:
    """Labels as grades, int8; case does not count. Raises InputError naming the row of one not among `grades`."""
    place = pc.index_in(pc.utf8_lower(labels), value_set=pa.array([name.lower() for name in grades], pa.string()))
    if place.null_count:
        row = int(np.flatnonzero(place.is_null().to_numpy(zero_copy_only=False))[0])
        known = ", ".join(grades)
        raise InputError(
            f"{path}: row {start + row}, column {column!r}: label {labels[row].as_py()!r} is none of {known}"
        )
    return pa.array(list(grades.values()), pa.int8()).take(place)


class Links:
    """Writes judgments.parquet, and pairs.parquet from the judgments of grade 4."""

    def __init__(self, folder: Path) -> None:
        self.judgments = pq.ParquetWriter(folder / file_name("judgments"), JUDGMENTS, compression="zstd")
        self.pairs = pq.ParquetWriter(folder / file_name("pairs"), PAIRS, compression="zstd")
        self.count = {"judgments": 0, "pairs": 0}

    def __enter__(self) -> "Links":
        return self

    def __exit__(self, *_: object) -> None:
        self.judgments.close()
        self.pairs.close()

    def add(self, query_ids: pa.Array, item_ids: pa.Array, grades: pa.Array, source: str) -> None:
        """Add judgments; those of grade 4 are pairs of weight 1 as well."""
        judged = [query_ids, item_ids, grades, pa.repeat(source, len(grades))]
        self.judgments.write_batch(pa.RecordBatch.from_arrays(judged, schema=JUDGMENTS))
        exact = pc.equal(grades, 4)
        liked = [query_ids.filter(exact), item_ids.filter(exact)]
        weights = pa.array(np.ones(len(liked[0]), dtype=np.float32))
        self.pairs.write_batch(pa.RecordBatch.from_arrays([*liked, weights], schema=PAIRS))
        self.count["judgments"] += len(grades)
        self.count["pairs"] += len(weights)
