"""A rollout as the gateway and the engine would have recorded it, with text that tries to break out of a page."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from taoemb.config import EventsConfig
from taoemb.rollout import state, verdict
from taoemb.rollout.backend import Candidate
from taoemb.rollout.measurement import measured
from taoemb.rollout.measurement.measured import Estimate, Measurement, SampleRatio
from taoemb.rollout.plan import Guardrail, Plan, SliceRule, Step
from taoemb.rollout.state import RolloutState
from taoemb.rollout.verdict import Reason, Verdict
from taoemb.serving.events.rows import Grade
from taoemb.serving.events.store import EventStore

NAME = "winter-encoder"
CONTROL, CANDIDATE = "c0" * 32, "ca" * 32
START = 1_790_000_000.0
SLICES = ("negation", "long-tail", "question")
PROBES = (
    "<script>window.hit = 1</script>",
    "\"><img src=x onerror='window.hit = 1'>",
    "'; alert(1); //",
    "</title></style><svg onload=window.hit=1>",
    "{{ 7 * 7 }}",
    "وسادة &amp; cushion ☃ " + "long" * 40,
)
PLAN = Plan(
    steps=(Step(percent=10, min_units=50), Step(percent=50, min_units=100)),
    depth=3,
    guardrails=(Guardrail(metric="error_rate", margin=0.01), Guardrail(metric="item_goodrate", slice="*", margin=0.1)),
    slices=tuple(SliceRule(name=name, pattern=name) for name in SLICES),
)


def events_config(folder: Path) -> EventsConfig:
    """A SQLite database in `folder`."""
    return EventsConfig(url=f"sqlite:///{folder / 'events.db'}", spool=folder / "spool")


def began() -> RolloutState:
    """A rollout that nothing happened to yet."""
    return state.begin(NAME, Candidate(CANDIDATE, "releases/candidate"), "salt", START, CONTROL)


def running() -> RolloutState:
    """A rollout in its second step."""
    now = state.moved(began(), "Deploying", f"control {CONTROL[:16]} answers", START + 5)
    now = state.moved(now, "Stepping", "to 10 %: the candidate answers with its digest", START + 20, 0)
    return state.moved(now, "Stepping", "to 50 %: 120 graded units", START + 200, 1)


def ended(outcome: str) -> RolloutState:
    """A rollout that was promoted, rolled back, or …"""
    on_the_way = "Promoting" if outcome == "Promoted" else "RollingBack"
    reason = "Item Goodrate lies above 0 by its whole interval"
    return state.moved(state.moved(running(), on_the_way, reason, START + 600), outcome, reason, START + 605)


def measurement(look: int, looks: int, slices: Sequence[str] = SLICES) -> Measurement:
    """The look number `look`; its intervals narrow around an effect of 0.08."""
    n = 40 * (look + 1)
    width = 0.9 / (1 + look) ** 0.6
    rng = random.Random(look)
    effect = 0.08 + rng.gauss(0, width / 8)

    def estimate(metric: str, slice: str, n: int, control: float, by: float, wide: float, higher: bool) -> Estimate:
        known = slice != "question" or look > looks // 2
        low, high = (by - wide, by + wide) if known else (-float("inf"), float("inf"))
        return Estimate(metric, slice, n // 2, n - n // 2, control, control + by, by, low, high, 0.05, higher)

    estimates = [
        estimate("item_goodrate", "all", n, 0.62, effect, width / 2, True),
        estimate("query_goodrate", "all", n, 0.7, effect, width, True),
        estimate("error_rate", "all", n, 0.0, 0.0, width / 20, False),
        estimate("latency_ms", "all", n, 18.2, 0.7, 9 * width, False),
        estimate("click_rate", "all", n, 0.31, 0.02, width, True),
        *[
            estimate("item_goodrate", name, n // 4, 0.5, effect - 0.1 * at, width, True)
            for at, name in enumerate(slices)
        ],
    ]
    return Measurement(START + 20 + 10 * look, n + 20, n, 3, estimates, SampleRatio(n // 2 + 4, n // 2, n / 2, 0.42))


def record(store: EventStore, now: RolloutState, looks: int, pages: int) -> None:
    """Write a rollout with so many looks and pages."""
    store.rollouts.create(NAME, PLAN.model_dump(mode="json"), state.to_json(now), now.since)
    for look in range(looks):
        said = [
            Reason("item_goodrate", "continue", "Item Goodrate: +0.080, interval [−0.020, +0.180] holds 0"),
            Reason("units", "next step", f"{40 * (look + 1)} graded units of 100 that this step asks for"),
            Reason("<b>bold</b>", "rollback", PROBES[0]),
        ]
        found = measurement(look, looks)
        store.rollouts.decide(NAME, found.at, verdict.to_json(Verdict("continue", said)), measured.to_json(found))
    store.add_pages([_page(at) for at in range(pages)])
    store.add_grades([_grade(at) for at in range(pages) if at % 10])


def _page(at: int) -> dict[str, Any]:
    arm = "candidate" if at % 2 else "control"
    release = CANDIDATE if at % 2 else CONTROL
    query = PROBES[at // 2 % len(PROBES)] if at < 60 else f"red sofa {at // 2 % 15}"
    items = [
        {
            "item_id": f"i{at}-{place}",
            "score": 0.5,
            "title": PROBES[(at + place) % len(PROBES)] if at < 60 else f"Sofa {place}",
            "brand": None,
            "category": "sofas",
            "price": 10.0,
        }
        for place in range(4)
    ]
    row = {"request_id": f"r{at}", "at": START + at, "rollout": NAME, "unit": f"u{at}", "assigned": arm, "served": arm}
    row |= {"forced": False, "percent": 50.0, "query": query, "k": 4, "filter": "", "release": release}
    row |= {"collection": "taoemb_0123", "items": items, "status": "ok"}
    return row | {"total_ms": 12.0, "encoder_ms": 5.0, "search_ms": 4.0}


def _grade(at: int) -> Grade:
    rng = random.Random(at)
    return Grade(f"r{at}", "judge", [rng.choice([0.02, 0.35, 0.65, 0.98, None]) for _ in range(3)], START + at)


def stand(now: RolloutState, message: str) -> RolloutState:
    """The state with a message."""
    return replace(now, message=message)
