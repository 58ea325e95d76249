"""One look from end to end: read what came, have pages graded, measure, judge, and keep the decision for audit."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType

import numpy as np

from taoemb.config import Config
from taoemb.errors import InputError
from taoemb.rollout import verdict
from taoemb.rollout.measurement import measured
from taoemb.rollout.measurement.grading import Grader, judge_settings
from taoemb.rollout.measurement.measure import measure
from taoemb.rollout.measurement.measured import Measurement
from taoemb.rollout.measurement.measurer import Measurer
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.page_metrics import GRADED
from taoemb.rollout.measurement.paired import Paired, interleaved
from taoemb.rollout.measurement.people import People
from taoemb.rollout.measurement.slicing import Slicer
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import RolloutState
from taoemb.rollout.verdict import Standing, Verdict
from taoemb.serving.events.store import EventStore
from taoemb.serving.traffic import ArmName

FORGET_FROM = 5_000
"""Rows that are wholly measured before they are let go."""
NOTHING = Paired(np.empty(0, dtype=np.int64), np.empty(0))


class Looker:
    """The `look` of one rollout's ticks; a context manager that keeps the judge's connections and what was read.

    Raises InputError for a plan whose files or judge can't be used.
    """

    def __init__(self, store: EventStore, config: Config, plan: Plan, reward_judges: Iterable[str]) -> None:
        """`reward_judges`: digests of the judges that any release of the rollout was trained to please."""
        self._store, self._plan = store, plan
        self._slicer = Slicer(plan)
        self._history = read_history(plan)
        self._people = None if plan.human is None else People(plan.human)
        self._route = None
        if plan.catalogue is not None:
            from taoemb.rollout.measurement.word_route import WordRoute

            self._route = WordRoute(plan.catalogue, plan.depth)
        self._open = ExitStack()
        self._grader: Grader | None = None
        if needs_judge(plan):
            grader = Grader(judge_settings(config), plan, reward_judges, patience_s=plan.look_every_s)
            self._grader = self._open.enter_context(grader)
        self._seen: Observations | None = None
        self._measurer: Measurer | None = None
        self.last: tuple[Measurement, Verdict] | None = None
        """What the latest look found."""
        self.note = ""
        """What kept the latest look from grading all that it wanted to."""

    def __enter__(self) -> "Looker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def __call__(self, state: RolloutState, now: float) -> Verdict:
        """Look at `now` (Unix seconds); pages' ages go by the database's clock. Raises TaoembError when it is away."""
        seen = self._read(state)
        if self._grader is not None:
            waiting = [page.request_id for page in seen.waiting()[: self._plan.pages_a_look]]
            self.note = self._grader.grade(self._store, waiting, seen.source).message if waiting else ""
            seen.read_grades(self._store)
        preferences = NOTHING
        if self._plan.design == "interleaving":
            rows = np.arange(0 if self._measurer is None else self._measurer.closed, seen.closed)
            preferences = interleaved(seen, self._store, rows, self._plan.event_window_s)
        releases: dict[ArmName, str] = {"control": state.control, "candidate": state.candidate.release}
        found = self._measured(seen, releases, now, preferences, state.step)
        judged = verdict.decide(self._plan, Standing(state.step, now - state.since), found)
        self._store.rollouts.decide(state.name, now, verdict.to_json(judged), measured.to_json(found))
        self.last = found, judged
        return judged

    def _measured(
        self, seen: Observations, releases: Mapping[ArmName, str], now: float, preferences: Paired, step: int
    ) -> Measurement:
        measurer = self._measurer
        if measurer is None:
            return measure(self._plan, seen, self._slicer, releases, now, preferences, step)
        measurer.take(seen, preferences)
        found = measurer.measurement(seen, releases, now, step)
        if measurer.done >= FORGET_FROM:
            rows = measurer.done
            seen.forget(rows)
            measurer.forgot(rows)
        return found

    def _read(self, state: RolloutState) -> Observations:
        seen = self._seen
        if seen is None or seen.rollout != state.name:
            seen = self._seen = Observations(
                state.name, state.salt, self._plan, self._route, self._history, self._people
            )
            self._measurer = None if self._people is not None else Measurer(self._plan, self._slicer)
        seen.read(self._store, self._store.now())
        return seen


def needs_judge(plan: Plan) -> bool:
    """Whether anything that the plan decides by rests on grades."""
    decisive = {plan.metric, *(guardrail.metric for guardrail in plan.guardrails)}
    return bool(decisive.intersection((*GRADED, "gsb")))


def read_history(plan: Plan) -> Mapping[str, float] | None:
    """Earlier values of units for CUPED; None without a file. Raises InputError when it is no such table."""
    if plan.history is None:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(plan.history, columns=["unit", "value"])
        values = table.column("value").cast(pa.float64()).to_pylist()
        return dict(zip(table.column("unit").cast(pa.string()).to_pylist(), values, strict=True))
    except (OSError, pa.ArrowException, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"plan: history: {plan.history}: needs columns unit (string) and value: {reason}") from None
