"""Graded pairs for a judge: read from dataset folders, divided by query, chosen evenly over queries and grades.

Near-duplicate queries (the same words but for order, case and plurals) form a group. A group's place in every division
is a hash of its words, so it never straddles two sides, and two judges trained on different parts share no query.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from taoemb.data.dataset import Dataset, open_dataset
from taoemb.data.words import near_duplicate_key
from taoemb.errors import InputError
from taoemb.judge.prompt import item_text, query_text


@dataclass(frozen=True)
class GradedPairs:
    """P judgments of one or several datasets; `group_keys[groups[p]]` names the query group of pair p."""

    datasets: Sequence[Dataset]
    dataset_of: np.ndarray  # (P,) index into `datasets`
    query_rows: np.ndarray  # (P,)
    item_rows: np.ndarray  # (P,)
    grades: np.ndarray  # (P,) int8
    sources: np.ndarray  # (P,) str
    groups: np.ndarray  # (P,) int64
    group_keys: Sequence[str]

    def __len__(self) -> int:
        return len(self.grades)

    def take(self, rows: np.ndarray) -> "GradedPairs":
        """Just these pairs."""
        names = ("dataset_of", "query_rows", "item_rows", "grades", "sources", "groups")
        return replace(self, **{name: vars(self)[name][rows] for name in names})

    @property
    def query_numbers(self) -> np.ndarray:
        """(P,) int64: a number for each distinct (dataset, query)."""
        stacked = np.stack([self.dataset_of.astype(np.int64), self.query_rows.astype(np.int64)])
        return np.unique(stacked, axis=1, return_inverse=True)[1].reshape(-1)

    def texts(self, item_tokens: int) -> tuple[list[str], list[str]]:
        """Query and item text of each pair, the same as a judge gets them through the client."""
        queries, items = [""] * len(self), [""] * len(self)
        for number, dataset in enumerate(self.datasets):
            rows = np.flatnonzero(self.dataset_of == number)
            distinct, back = np.unique(self.item_rows[rows], return_inverse=True)
            texts = [item_text(record, item_tokens) for record in dataset.items.records(distinct)]
            for row, item in zip(rows, back, strict=True):
                queries[row] = query_text(dataset.queries.texts[self.query_rows[row]])
                items[row] = texts[item]
        return queries, items


def read_graded(folders: Sequence[Path]) -> GradedPairs:
    """All judgments of the dataset folders. Raises InputError when a folder has none or breaks the contract."""
    if not folders:
        raise InputError("no dataset folder given; name at least one with --data")
    datasets = [open_dataset(Path(folder), need=("items", "queries", "judgments")) for folder in folders]
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    numbers: dict[str, int] = {}
    for number, dataset in enumerate(datasets):
        judgments = dataset.judgments
        if judgments is None or not len(judgments):
            raise InputError(f"{dataset.root / 'judgments.parquet'}: holds no judgment; a judge needs graded pairs")
        keys = [" ".join(near_duplicate_key(text)) for text in dataset.queries.texts]
        groups = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
        columns["dataset_of"].append(np.full(len(judgments), number))
        columns["query_rows"].append(judgments.query_rows)
        columns["item_rows"].append(judgments.item_rows)
        columns["grades"].append(judgments.grades)
        columns["sources"].append(np.array([source or "unnamed" for source in judgments.sources]))
        columns["groups"].append(groups[judgments.query_rows])
    return GradedPairs(datasets, **{name: np.concatenate(c) for name, c in columns.items()}, group_keys=list(numbers))


def part_of(pairs: GradedPairs, share: float, part: int) -> GradedPairs:
    """The pairs whose query group falls into part number `part` of size `share`; parts share no group.

    Raises InputError when that part does not exist or holds no pair.
    """
    if part < 0 or (part + 1) * share > 1 + 1e-9:
        raise InputError(
            f"judge_train.query_part={part}: with query_share={share} parts 0 to {int(1 / share) - 1} exist"
        )
    place_G = np.array([_unit(f"part:{key}") for key in pairs.group_keys])
    inside_G = (place_G >= part * share) & (place_G < (part + 1) * share)
    rows = np.flatnonzero(inside_G[pairs.groups])
    if not len(rows):
        raise InputError(f"judge_train.query_part={part}: no graded query falls into it; raise judge_train.query_share")
    return pairs.take(rows)


def hold_out(pairs: GradedPairs, share: float, seed: int) -> tuple[GradedPairs, GradedPairs]:
    """Training pairs and held-out pairs: about `share` of the query groups, at least one, are held out.

    Raises InputError when there are fewer than two groups.
    """
    groups = np.unique(pairs.groups)
    if len(groups) < 2:
        raise InputError(f"{_names(pairs)}: only {len(groups)} graded query; a judge needs two or more")
    order = sorted(groups, key=lambda group: _unit(f"{seed}:{pairs.group_keys[group]}"))
    held = np.isin(pairs.groups, order[: min(max(1, round(share * len(groups))), len(groups) - 1)])
    return pairs.take(np.flatnonzero(~held)), pairs.take(np.flatnonzero(held))


def choose_evenly(pairs: GradedPairs, count: int, seed: int) -> GradedPairs:
    """At most `count` pairs, as even over queries, and within a query over grades, as the data allows; seeded."""
    if len(pairs) <= count:
        return pairs
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(pairs))
    by_cell = np.lexsort((pairs.grades[shuffled], pairs.query_numbers[shuffled]))
    rows = shuffled[by_cell]
    in_grade = _place_in_run(np.stack([pairs.query_numbers[rows], pairs.grades[rows]]))
    # A query's pairs in rounds over its grades: first one of each grade, then a second of each, …
    by_round = np.lexsort((rng.random(len(rows)), in_grade, pairs.query_numbers[rows]))
    rows = rows[by_round]
    in_query = _place_in_run(pairs.query_numbers[rows][None])
    kept = np.lexsort((rng.random(len(rows)), in_query))[:count]
    return pairs.take(np.sort(rows[kept]))


def _place_in_run(keys: np.ndarray) -> np.ndarray:
    """How many equal columns of `keys` (K, P), sorted, stand directly before each column."""
    new = np.any(np.diff(keys, axis=1, prepend=keys[:, :1] - 1) != 0, axis=0)
    starts = np.flatnonzero(new)
    return np.arange(keys.shape[1]) - np.repeat(starts, np.diff(np.append(starts, keys.shape[1])))


def _unit(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64


def _names(pairs: GradedPairs) -> str:
    return ", ".join(str(dataset.root) for dataset in pairs.datasets)
