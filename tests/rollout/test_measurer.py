"""Measuring look by look, with rows let go, says what measuring everything at once says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.rollout.measurement.looking import NOTHING
from taoemb.rollout.measurement.measure import measure
from taoemb.rollout.measurement.measured import Measurement, to_json
from taoemb.rollout.measurement.measurer import Measurer
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.paired import interleaved
from taoemb.rollout.measurement.slicing import Slicer
from taoemb.rollout.plan import Plan
from taoemb.serving.events.store import EventStore
from tests.rollout.rollout_rows import RELEASES, ROLLOUT, SALT, START, grade, make_rows, open_store, write
from tests.serving.event_rows import click, page

PLAN = Plan.model_validate(
    {
        "slices": [{"name": "negation", "pattern": r"\bwithout\b"}, {"name": "rugs", "pattern": "RUG"}],
        "depth": 3,
        "event_window_s": 50,
        "guardrails": [{"metric": "item_goodrate", "slice": "*", "margin": 0.1}],
    }
)
COUNT = 160


class Looks:
    """One controller's looks."""

    def __init__(self, store: EventStore, *, forgets: bool) -> None:
        self.store, self.forgets = store, forgets
        self.seen = Observations(ROLLOUT, SALT, PLAN, history={f"u{n}": n / 60 for n in range(0, 60, 2)})
        self.measurer = Measurer(PLAN, Slicer(PLAN))

    def look(self, now: float) -> Measurement:
        self.seen.read(self.store, now)
        self.measurer.take(self.seen, NOTHING)
        found = self.measurer.measurement(self.seen, RELEASES, now, 3)
        if self.forgets:
            rows = self.measurer.done
            self.seen.forget(rows)
            self.measurer.forgot(rows)
        return found


@settings(max_examples=6, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_looks_say_what_everything_at_once_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, seed: int
) -> None:
    rows = make_rows(seed, COUNT, users=120)
    store = open_store(tmp_path_factory.mktemp("looks"))
    forgets, keeps = Looks(store, forgets=True), Looks(store, forgets=False)
    cuts = sorted(data.draw(st.lists(st.integers(0, COUNT), min_size=1, max_size=4)))
    for start, end in zip([0, *cuts], [*cuts, COUNT], strict=True):
        write(store, rows, start, end)
        forgets.look(START + end - 30)
        waiting = [one.request_id for one in forgets.seen.waiting()]
        grade(store, rows, waiting[: data.draw(st.integers(0, len(waiting)))])
    now = START + COUNT + 20
    found = forgets.look(now)
    assert found == keeps.look(now), "a process that starts over measures the same"
    assert len(forgets.seen) < len(keeps.seen) or not forgets.seen.closed
    everything = Observations(ROLLOUT, SALT, PLAN)
    everything.read(store, now)
    whole = measure(PLAN, everything, Slicer(PLAN), RELEASES, now, NOTHING, 3)
    left, right = to_json(found), to_json(whole)
    for one, other in zip(left.pop("estimates"), right.pop("estimates"), strict=True):
        numbers = [name for name, value in other.items() if isinstance(value, float)]
        assert [one.pop(name) for name in numbers] == pytest.approx([other.pop(name) for name in numbers], 1e-4, 1e-4)
        assert one == other
    for ratio in ("sample_ratio", "answered_ratio"):
        assert left.pop(ratio) == pytest.approx(right.pop(ratio))
    assert left == right
    store.close()


def test_preferences_of_new_pages_add_up(tmp_path: Path) -> None:
    plan = Plan.model_validate({"design": "interleaving", "metric": "preference", "event_window_s": 10})
    store, slicer = open_store(tmp_path), Slicer(plan)
    seen, measurer = Observations(ROLLOUT, SALT, plan), Measurer(plan, slicer)
    items = [{"item_id": f"i{n}", "team": "candidate" if n % 2 else "control"} for n in range(4)]
    for number in range(40):
        row = page(rollout=ROLLOUT, at=START + number, percent=50.0, assigned="candidate", served="interleaved")
        store.add_pages([row | {"items": items, "unit": f"u{number}"}])
        store.add_events([click(row["request_id"], item_id=f"i{number % 3}", at=row["at"] + 1)])
        if number % 7 == 6:
            seen.read(store, START + number)
            new = interleaved(seen, store, np.arange(measurer.closed, seen.closed), 10)
            measurer.take(seen, new)
            seen.forget(measurer.done)
            measurer.forgot(measurer.done)
    now = START + 34
    found = measurer.measurement(seen, RELEASES, now).find("preference")
    fresh = Observations(ROLLOUT, SALT, plan)
    fresh.read(store, None)
    preferences = interleaved(fresh, store, np.arange(fresh.closed), 10)
    whole = measure(plan, fresh, slicer, RELEASES, now, preferences).find("preference")
    assert found.n_candidate == whole.n_candidate > 15
    assert (found.effect, found.low, found.high) == pytest.approx((whole.effect, whole.low, whole.high))
