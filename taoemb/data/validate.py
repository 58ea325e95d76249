"""Reads a whole dataset folder once: what is in it, every breach of the contract, and what can hardly be meant."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taoemb.data.checks import Violation, check_unique, describe, resolve, stream
from taoemb.data.doubts import Doubt, Doubts
from taoemb.data.schemas import GRADES, SCHEMAS, file_name
from taoemb.errors import InputError

SHOWN = 20  # violations listed for one rule in one column; the rest is counted


@dataclass(frozen=True)
class ValidationReport:
    """What a dataset folder holds; `violations` lists at most 20 of a kind, `violation_count` counts all."""

    root: Path
    counts: dict[str, int]  # rows of each table that is there
    slices: dict[str, int]  # queries of each slice
    labels: dict[int, int]  # judgments of each grade
    sources: dict[str, int]  # judgments of each source
    coverage: dict[str, float]  # share of items with each field, of queries with pairs and judgments, …
    violations: list[Violation]
    violation_count: int
    warnings: list[Doubt]  # what keeps the contract and can hardly be meant

    @property
    def ok(self) -> bool:
        """Whether the folder keeps the contract."""
        return self.violation_count == 0

    def as_dict(self) -> dict[str, Any]:
        """The report for programs (JSON types)."""
        return {
            "ok": self.ok,
            "counts": self.counts,
            "slices": self.slices,
            "labels": {GRADES[grade]: count for grade, count in self.labels.items()},
            "sources": self.sources,
            "coverage": self.coverage,
            "violation_count": self.violation_count,
            "violations": [vars(violation) for violation in self.violations],
            "warnings": [vars(warning) for warning in self.warnings],
        }


@dataclass
class _Collector:
    """Reporter that keeps the first violations of every kind and counts all."""

    seen: Counter[tuple[str, str | None, str]] = field(default_factory=Counter)
    kept: list[Violation] = field(default_factory=list)

    def __call__(
        self,
        table: str,
        column: str | None,
        problem: str,
        rows: np.ndarray | None = None,
        values: pa.Array | None = None,
    ) -> None:
        kind = (table, column, problem)
        self.kept += describe(table, column, problem, rows, values, limit=max(0, SHOWN - self.seen[kind]))
        self.seen[kind] += 1 if rows is None else len(rows)


def validate(root: Path) -> ValidationReport:
    """Check every value of a dataset folder, count what it holds and what is doubtful about it.

    items.parquet must be there, and queries.parquet where pairs or judgments are. Memory: ids and one batch of rows.
    Raises InputError when `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected a dataset folder with {file_name('items')}")
    report = _Collector()
    there = [name for name in SCHEMAS if (root / file_name(name)).is_file()]
    needed = {"items"} | ({"queries"} if {"pairs", "judgments"} & set(there) else set())
    counts: dict[str, int] = {}
    ids: dict[str, pa.ChunkedArray] = {}
    tallies: dict[str, Counter] = {"slices": Counter(), "labels": Counter(), "sources": Counter()}
    coverage: dict[str, float] = {}
    doubts = Doubts()
    for name in (name for name in SCHEMAS if name in there or name in needed):
        read = {"items": _items, "queries": _queries}.get(name, _links)
        counts[name] = read(root, name, report, ids, tallies, coverage, doubts)
    doubts.unnamed_queries()
    return ValidationReport(
        root=root,
        counts=counts,
        slices=dict(tallies["slices"].most_common()),
        labels={grade: tallies["labels"][grade] for grade in GRADES} if "judgments" in counts else {},
        sources=dict(tallies["sources"].most_common()),
        coverage=coverage,
        violations=report.kept,
        violation_count=sum(report.seen.values()),
        warnings=doubts.found(),
    )


def _items(root: Path, name: str, report: _Collector, ids: dict, tallies: dict, coverage: dict, doubts: Doubts) -> int:
    filled: Counter[str] = Counter()
    chunks: list[pa.Array] = []
    for batch in stream(root, name, report):
        doubts.items(batch, sum(map(len, chunks)))
        chunks.append(batch.column("item_id"))
        for column in batch.schema.names:
            filled[column] += _filled(batch.column(column))
    ids[name] = pa.chunked_array(chunks, pa.string())
    check_unique(ids[name], name, "item_id", report)
    coverage.update({f"items with {column}": n / max(1, len(ids[name])) for column, n in filled.items()})
    return len(ids[name])


def _filled(column: pa.Array) -> int:
    """How many values are there and not empty."""
    if pa.types.is_string(column.type):
        return int(pc.sum(pc.greater(pc.binary_length(column), 0)).as_py() or 0)
    if pa.types.is_map(column.type):
        lengths = np.diff(column.offsets.to_numpy())
        return int(np.count_nonzero(lengths[: len(column)]))
    return len(column) - column.null_count


def _queries(
    root: Path, name: str, report: _Collector, ids: dict, tallies: dict, coverage: dict, doubts: Doubts
) -> int:
    chunks: list[pa.Array] = []
    for batch in stream(root, name, report):
        chunks.append(batch.column("query_id"))
        doubts.queries(batch)
        _tally(tallies["slices"], batch.column("slices").flatten())
    ids[name] = pa.chunked_array(chunks, pa.string())
    check_unique(ids[name], name, "query_id", report)
    doubts.same_texts()
    return len(ids[name])


def _links(root: Path, name: str, report: _Collector, ids: dict, tallies: dict, coverage: dict, doubts: Doubts) -> int:
    value = "grade" if name == "judgments" else "weight"
    chunks: dict[str, list[pa.Array]] = {"query_id": [], "item_id": [], value: []}
    for batch in stream(root, name, report):
        for column, parts in chunks.items():
            parts.append(batch.column(column))
        if name == "judgments":
            _tally(tallies["labels"], batch.column("grade"))
            _tally(tallies["sources"], batch.column("source"))
    found: dict[str, np.ndarray] = {}
    asked = {column: pa.chunked_array(chunks[column], pa.string()) for column in ("query_id", "item_id")}
    for column, target in (("query_id", "queries"), ("item_id", "items")):
        unread = len(ids[target]) == 0 and any(table == target for table, _, _ in report.seen)
        if asked[column].null_count == len(asked[column]) or unread:
            continue  # the column or its target is missing, which is reported already
        found[column] = resolve(asked[column], ids[target], name, column, report)
        coverage[f"{target} with {name}"] = len(np.unique(found[column][found[column] >= 0])) / max(1, len(ids[target]))
    if len(found) == 2:
        values = pa.chunked_array(chunks[value]).cast(pa.float32()).to_numpy()
        doubts.links(name, found["query_id"], found["item_id"], values, list(asked.values()))
    return sum(map(len, chunks["query_id"]))


def _tally(counter: Counter, values: pa.Array) -> None:
    for entry in pc.value_counts(values.drop_null()).to_pylist():
        counter[entry["values"]] += entry["counts"]
