"""Divides a dataset's queries into train, valid and test so that nothing of test is seen in training.

Queries that are near-duplicates (the same words but for case, order, plurals and fillers) form a group, and a group
never straddles a split. With `by: template` test holds the queries of some templates (slices "template:{kind}/{n}",
a share of each kind's templates), which train and valid never show; near-duplicates of a test query that other
templates made are left out. Queries that merely share their clicked items are not a group: other words for the same
thing are what an encoder is to generalise over.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taoemb.config import SplitConfig
from taoemb.data.checks import FirstViolation, stream
from taoemb.data.dataset import Queries, open_dataset
from taoemb.data.files import check_target, link, new_folder, write_table
from taoemb.data.schemas import file_name
from taoemb.data.words import near_duplicate_key
from taoemb.errors import InputError

PARTS = ("train", "valid", "test")
_TEMPLATE = "template:"


def split(data: Path, out: Path, config: SplitConfig) -> dict[str, Any]:
    """Write `out`/{train,valid,test}, each a whole dataset folder over the same items. Returns queries per part.

    Raises InputError when the input breaks the contract, when the shares leave nothing to train on, or when queries
    have no templates to split by.
    """
    data, out = Path(data), Path(out)
    if config.valid + config.test >= 1:
        raise InputError(f"split.valid + split.test is {config.valid + config.test:g}; it must stay below 1")
    check_target(out, data)
    dataset = open_dataset(data, need=("items", "queries"))
    parts = assign(dataset.queries, config)
    if not (parts == 0).any():
        raise InputError(
            f"{data}: {len(dataset.queries)} queries leave none to train on; lower split.valid and split.test"
        )
    with new_folder(out) as folder:
        for number, part in enumerate(PARTS):
            (folder / part).mkdir()
            link(data / file_name("items"), folder / part / file_name("items"))
            ids = pa.array([dataset.queries.ids[row] for row in np.flatnonzero(parts == number)], pa.string())
            for table in ("queries", "pairs", "judgments"):
                if (data / file_name(table)).is_file():
                    _copy(data, folder / part, table, ids)
    counts = {part: int((parts == number).sum()) for number, part in enumerate(PARTS)}
    return {"out": str(out), **counts, "left_out": int((parts < 0).sum())}


def assign(queries: Queries, config: SplitConfig) -> np.ndarray:
    """Part of each query: 0 train, 1 valid, 2 test, -1 left out (int8). The order of the rows does not matter."""
    keys = [near_duplicate_key(text) for text in queries.texts]
    parts = np.full(len(keys), -1, dtype=np.int8)
    rng = np.random.default_rng(config.seed)
    left = np.arange(len(keys))
    if config.by == "template":
        held = _held_out_templates(queries, config.test, rng)
        parts[[_template_of(slices) in held for slices in queries.slices]] = 2
        tested = {key for key, part in zip(keys, parts, strict=True) if part == 2}
        left = np.array([row for row, key in enumerate(keys) if key not in tested], dtype=np.int64)
        _deal(keys, left, parts, rng, valid=round(config.valid * len(keys)), test=0)
    else:
        _deal(keys, left, parts, rng, valid=round(config.valid * len(keys)), test=round(config.test * len(keys)))
    return parts


def _deal(
    keys: list[tuple[str, ...]], rows: np.ndarray, parts: np.ndarray, rng: np.random.Generator, valid: int, test: int
) -> None:
    """Deal groups out in random order: to test until it has its number, then to valid, then to train."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row in rows.tolist():
        groups[keys[row]].append(row)
    ordered = sorted(groups)
    wanted = {2: test, 1: valid}
    for place in rng.permutation(len(ordered)).tolist():
        members = groups[ordered[place]]
        part = next((part for part, number in wanted.items() if number >= len(members)), 0)
        parts[members] = part
        if part:
            wanted[part] -= len(members)


def _template_of(slices: tuple[str, ...]) -> str | None:
    return next((name for name in slices if name.startswith(_TEMPLATE)), None)


def _held_out_templates(queries: Queries, share: float, rng: np.random.Generator) -> set[str | None]:
    """A share of each kind's templates (at least one where a kind has several)."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for query_id, slices in zip(queries.ids, queries.slices, strict=True):
        template = _template_of(slices)
        if template is None:
            raise InputError(
                f"split.by is template, but query {query_id} has no slice 'template:…'; use split.by=query"
            )
        kinds[template.rsplit("/", 1)[0]].add(template)
    held: set[str | None] = set()
    for kind in sorted(kinds):
        templates = sorted(kinds[kind])
        if share > 0 and len(templates) > 1:
            held.update(
                rng.permutation(templates)[: min(max(1, round(share * len(templates))), len(templates) - 1)].tolist()
            )
    return held


def _copy(data: Path, folder: Path, table: str, ids: pa.Array) -> None:
    """The rows of a table that belong to the queries `ids`, batch by batch."""

    def kept() -> Iterator[pa.RecordBatch]:
        for batch in stream(data, table, FirstViolation(data)):
            yield batch.filter(pc.is_in(batch.column("query_id"), value_set=ids))

    batches = kept()
    first = next(batches)
    write_table(folder / file_name(table), chain([first], batches), first.schema)
