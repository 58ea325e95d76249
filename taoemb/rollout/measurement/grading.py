"""Has served pages graded by a judge that no release of the rollout was trained to please.

What was graded is kept in the events database, so no page is judged twice and whoever measures anew measures the same.
Grades are kept in the pages' order of arrival; a judge that is slow or away delays them and biases nothing.
"""

import concurrent.futures
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from taoemb.config import Config, JudgeConfig
from taoemb.errors import InputError
from taoemb.judge.client import JudgeClient, Judged, JudgeUnavailable
from taoemb.judge.failures import JudgeUnfit
from taoemb.judge.identity import known_among, same_judge
from taoemb.judge.probe import PAIRS, probe, unfit
from taoemb.rollout.plan import Plan
from taoemb.serving.events.rows import Grade
from taoemb.serving.events.store import EventStore

PAGES_AT_ONCE = 32
PAGES_FIRST = 4  # to a judge that has answered none yet; twice as many each time: it may have been these pages' fault


@dataclass(frozen=True)
class Graded:
    """How one look's grading went."""

    pages: int
    message: str = ""
    """Why it stopped early; empty when it did not."""


class Grader:
    """A judge for one rollout, a context manager. Raises InputError when it may not grade or is not configured."""

    def __init__(self, config: JudgeConfig, plan: Plan, reward_judges: Iterable[str], patience_s: float) -> None:
        """`patience_s`: how long one look waits for the judge."""
        self._plan, self._reward_judges = plan, frozenset(reward_judges)
        self._patience_s = patience_s
        wait_s = min(config.wait_s, patience_s)
        self._client = JudgeClient(config.model_copy(update={"wait_s": wait_s}))
        self._asked: deque[tuple[list[tuple[str, int]], concurrent.futures.Future[Judged]]] = deque()
        """Pages under way in order: (id, number of items) of each, and the future of their grades."""
        self._tried = False
        """Whether the judge has answered pages; until then what they lack may be its settings' fault."""
        self._first = PAGES_FIRST

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def check(self) -> str:
        """The judge's digest. Raises InputError when it gave reward in training, JudgeUnavailable when it is away."""
        judge = self._client.release
        known = known_among(self._client.names, self._reward_judges)
        if known is not None:
            raise InputError(
                f"the judge {known[:12]} at {self._client.config.url} gave the reward that a release of this rollout "
                "was trained on; it may not grade it: name a different one in heldout_judge.url"
            )
        return judge

    def probe(self) -> None:
        """Raise JudgeUnfit when the judge answers, but not with grades; JudgeUnavailable when it is away."""
        probe(self._client)

    def grade(self, store: EventStore, request_ids: Sequence[str], source: str | None) -> Graded:
        """Grade these pages in order as far as the judge comes in time, and keep the grades.

        `source` is the judge that graded earlier pages. Raises InputError when it is another one now.
        """
        deadline = time.monotonic() + self._patience_s
        done, graded = 0, set[str]()
        try:
            judge = self.check()
            if source is not None and not same_judge(source, judge):
                raise InputError(
                    f"the judge at {self._client.config.url} is {judge[:12]} now, and {str(source)[:12]} graded "
                    "earlier pages of this rollout; start that one again, or start a new rollout"
                )
            self._ask(store, request_ids)
            while self._asked:
                part, future = self._asked[0]
                judged = future.result(max(0.0, deadline - time.monotonic()))
                self._check_fit(judged)
                store.add_grades(list(_grades(part, judged, judge, time.time())))
                self._asked.popleft()
                done += len(part)
                graded.update(request_id for request_id, _ in part)
                if not self._asked:  # those that went first were answered
                    self._ask(store, [one for one in request_ids if one not in graded])
        except JudgeUnavailable as error:
            self._asked.clear()
            return Graded(done, str(error))
        except TimeoutError:
            return Graded(done, f"the judge graded {done} of {len(request_ids)} pages in {self._patience_s:g} s")
        return Graded(done)

    def _check_fit(self, judged: Judged) -> None:
        """Raise JudgeUnfit when this part shows a judge that should be mended before its pages are given up."""
        pairs = len(judged.relevance)
        if not self._tried or (pairs >= PAIRS and judged.unanswered == pairs):
            problem = unfit(self._client.config, judged)
            if problem:
                self._first = min(2 * self._first, PAGES_AT_ONCE)
                raise JudgeUnfit(problem)
        self._tried = self._tried or pairs > 0

    def _ask(self, store: EventStore, request_ids: Sequence[str]) -> None:
        """Send those pages on their way that are not yet; what an earlier look did not wait for stays under way."""
        under_way = {request_id for part, _ in self._asked for request_id, _ in part}
        new = [request_id for request_id in request_ids if request_id not in under_way]
        if not self._tried:
            new = new[: 0 if under_way else self._first]
        for start in range(0, len(new), PAGES_AT_ONCE):
            ids = new[start : start + PAGES_AT_ONCE]
            pages = store.pages(ids)
            shown = [(pages[one], (pages[one].items or ())[: self._plan.depth]) for one in ids]
            queries = [page.query for page, items in shown for _ in items]
            records = [item for _, items in shown for item in items]
            sizes = [(page.request_id, len(items)) for page, items in shown]
            self._asked.append((sizes, self._client.submit(queries, records, remember=not self._tried)))


def judge_settings(config: Config) -> JudgeConfig:
    """The judge that grades pages: heldout_judge, else judge (refused later if it gave the reward).

    Raises InputError when neither has a URL.
    """
    chosen = config.heldout_judge or config.judge
    if chosen.url is None:
        raise InputError("the plan's metrics need a judge: set heldout_judge.url, e.g. with --judge-url URL")
    return chosen


def _grades(part: Sequence[tuple[str, int]], judged: Judged, judge: str, at: float) -> Iterable[Grade]:
    start = 0
    for request_id, size in part:
        values = judged.relevance[start : start + size]
        relevance = [None if np.isnan(value) else round(float(value), 6) for value in values]
        yield Grade(request_id, judge, relevance, at)
        start += size
