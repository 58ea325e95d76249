"""Lets a held-out judge grade what the systems found, so that unjudged items are looked at and not guessed.

The judge that gave the reward may not grade: a release has been trained to please it, faults included.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from taoemb.config import Config, JudgeConfig
from taoemb.data.dataset import Catalogue
from taoemb.errors import InputError, TaoembError
from taoemb.evaluation.systems import System
from taoemb.judge.client import JudgeClient, Judged
from taoemb.judge.identity import known_among
from taoemb.judge.local import running_judge
from taoemb.progress import progress

PAIRS_AT_ONCE = 512
REQUESTS_AHEAD = 4
OWN_BATCH = 32  # pairs in a request to a judge that is served here
NO_ITEM, UNANSWERED = -1, 0


@dataclass(frozen=True)
class Grading:
    """A judge's grades of each system's top places."""

    release: str
    grades: dict[str, np.ndarray]  # system → (Q, depth) int8: 1–4, 0 unanswered, −1 no item
    pairs: int  # distinct pairs over all systems
    asked: int  # sent to the judge, a first probe's pairs among them (the others came from its cache)
    unanswered: int
    seconds: float

    def facts(self) -> dict[str, Any]:
        """What a report says about it."""
        counts = {"pairs": self.pairs, "asked": self.asked, "unanswered": self.unanswered}
        return {"release": self.release, **counts, "seconds": self.seconds}


def heldout_settings(config: Config) -> JudgeConfig:
    """`config.heldout_judge`; else a judge that reads the same rubric and as much of an item as the reward judge."""
    like = config.judge
    return config.heldout_judge or JudgeConfig(rubric=like.rubric, item_tokens=like.item_tokens, cache=like.cache)


@contextmanager
def heldout_client(config: Config, judge: bool | Path) -> Iterator[JudgeClient]:
    """A client of the held-out judge: of `config.heldout_judge`, or of the judge in a folder, served meanwhile."""
    settings = heldout_settings(config)
    with ExitStack() as stack:
        if isinstance(judge, Path):
            if not judge.is_dir():
                raise InputError(f"--judge {judge}: no such folder; give the folder that `taoemb judge train` wrote")
            own = {"url": stack.enter_context(running_judge(judge)), "batch_size": max(settings.batch_size, OWN_BATCH)}
            settings = settings.model_copy(update=own)
        if settings.url is None:
            raise InputError("no held-out judge: give --judge-url, --judge DIR or set heldout_judge.url")
        yield stack.enter_context(JudgeClient(settings))


def refuse_reward_judge(names: Collection[str], systems: Iterable[System]) -> None:
    """Raise InputError when the judge of these names gave the reward that one of the systems was trained on."""
    for system in systems:
        judge = known_among(names, system.reward_judges)
        if judge is not None:
            raise InputError(
                f"the judge {judge[:12]} gave the reward that {system.name} ({system.source}) was trained on; "
                "it may not grade it: give a different --judge or --judge-url"
            )


def grade_rankings(
    client: JudgeClient, queries: Sequence[str], items: Catalogue, rankings: Mapping[str, np.ndarray]
) -> Grading:
    """Grade every item of `rankings` (system → rows (Q, depth), −1 for an empty place); equal pairs are asked once.

    A grade is the judge's most probable label. Raises TaoembError when more than `max_unanswered` stay without one.
    """
    started = perf_counter()
    size = len(items)
    keys = {
        name: np.where(rows < 0, -1, np.arange(len(rows))[:, None] * size + rows) for name, rows in rankings.items()
    }
    distinct = np.unique(np.concatenate([key.reshape(-1) for key in keys.values()]))
    distinct = distinct[distinct >= 0]
    grades, asked, problem = _ask(client, queries, items, distinct)
    unanswered = int((grades == UNANSWERED).sum())
    if unanswered > client.config.max_unanswered * len(distinct):
        raise TaoembError(
            f"the judge at {client.config.url} left {unanswered} of {len(distinct)} pairs unanswered, more than "
            f"{client.config.max_unanswered:.0%} (heldout_judge.max_unanswered): {problem}"
        )
    table = {}
    for name, key in keys.items():
        place = np.minimum(np.searchsorted(distinct, key), max(len(distinct) - 1, 0))
        table[name] = np.where(key < 0, NO_ITEM, grades[place] if len(grades) else NO_ITEM).astype(np.int8)
    return Grading(client.release, table, len(distinct), asked, unanswered, perf_counter() - started)


def _ask(
    client: JudgeClient, queries: Sequence[str], items: Catalogue, keys: np.ndarray
) -> tuple[np.ndarray, int, str]:
    """Grades (P,) int8 of pairs query · catalogue size + item row, how many were asked, and the first bad answer."""
    grades = np.zeros(len(keys), dtype=np.int8)
    asked, problem = 0, ""
    with progress("judge", len(keys)) as bar:

        def take(part: slice, judged: Judged) -> int:
            nonlocal problem
            problem = problem or judged.problem
            answered = ~np.isnan(judged.relevance)
            labels = np.nan_to_num(judged.grade_probs).argmax(axis=1) + 1
            grades[part] = np.where(answered, labels, UNANSWERED)
            bar.advance(len(answered))
            return judged.asked

        ahead: deque = deque()
        for start in range(0, len(keys), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            of_query, rows = np.divmod(keys[part], len(items))
            records = items.records(rows)
            ahead.append((part, client.submit([queries[i] for i in of_query], records)))
            if len(ahead) > REQUESTS_AHEAD:
                first, future = ahead.popleft()
                asked += take(first, future.result())
        for first, future in ahead:
            asked += take(first, future.result())
    return grades, asked, problem
