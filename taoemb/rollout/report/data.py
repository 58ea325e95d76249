"""What the report of a rollout shows, read from its record: a value, so that rendering needs no database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taoemb.errors import InputError
from taoemb.rollout.measurement import measured
from taoemb.rollout.measurement.measured import Measurement
from taoemb.rollout.plan import Plan, parse_plan
from taoemb.rollout.report.examples import Example, find_examples
from taoemb.rollout.state import RolloutState, from_json
from taoemb.rollout.verdict import Reason, Verdict
from taoemb.serving.events.rows import PageKind
from taoemb.serving.events.store import EventStore
from taoemb.serving.traffic import ArmName

ARMS: tuple[ArmName, ArmName] = ("control", "candidate")


@dataclass(frozen=True)
class Look:
    """One measurement and what was decided on it."""

    at: float
    """Unix seconds."""
    verdict: Verdict
    measurement: Measurement


@dataclass(frozen=True)
class ArmTraffic:
    """What an arm answered."""

    name: ArmName
    release: str
    """Digest; empty while nobody read it."""
    collections: tuple[str, ...]
    """Collections that its pages were searched in."""
    assigned: int = 0
    """Pages of units that belong to the arm."""
    served: int = 0
    """Pages that the arm answered, forced ones included."""
    fallbacks: int = 0
    """Pages of its units that the other arm answered."""
    errors: int = 0
    forced: int = 0


@dataclass(frozen=True)
class ReportData:
    """A rollout as it stands at `now` (Unix seconds)."""

    plan: Plan
    state: RolloutState
    now: float
    looks: Sequence[Look]
    arms: Sequence[ArmTraffic]
    examples: Sequence[Example]
    """One pair of graded pages for each query that both arms answered."""

    @property
    def last(self) -> Look | None:
        """The latest look."""
        return self.looks[-1] if self.looks else None

    @property
    def started(self) -> float:
        """When the rollout began."""
        return self.state.changes[0].at if self.state.changes else self.state.since

    @property
    def until(self) -> float:
        """When it ended, or now."""
        ended = self.state.changes[-1].at if self.state.ended and self.state.changes else self.now
        return max(ended, self.started + 1)


def stored_report(store: EventStore, name: str, now: float) -> ReportData:
    """The data of a rollout that the events database keeps. Raises InputError when it keeps none of that name."""
    found = store.rollouts.read(name)
    if found is None:
        known = ", ".join(store.rollouts.names()[:5]) or "none"
        raise InputError(f"rollout {name!r} is not in this events database; it knows: {known}")
    return gather(store, parse_plan(found.plan, f"rollout {name}"), from_json(found.state), now)


def gather(store: EventStore, plan: Plan, state: RolloutState, now: float) -> ReportData:
    """The data of a rollout whose plan and state are kept elsewhere, e.g. in a resource's status."""
    looks = [
        Look(one.at, _verdict(one.verdict), measured.from_json(one.measurement))
        for one in store.rollouts.decisions(state.name)
    ]
    arms = _traffic(store.count_pages(state.name).pages, state)
    return ReportData(plan, state, now, looks, arms, find_examples(store, plan, state.name))


def _verdict(tree: Mapping[str, Any]) -> Verdict:
    return Verdict(tree["outcome"], [Reason(**reason) for reason in tree["reasons"]], tree["next_step"])


def _traffic(pages: Mapping[PageKind, int], state: RolloutState) -> list[ArmTraffic]:
    arms = [ArmTraffic("control", state.control, ()), ArmTraffic("candidate", state.candidate.release, ())]
    for kind, count in pages.items():
        arms = [_counted(arm, kind, count) for arm in arms]
    return arms


def _counted(arm: ArmTraffic, kind: PageKind, count: int) -> ArmTraffic:
    ours, answered = kind.assigned == arm.name, kind.served == arm.name
    collections = {*arm.collections, kind.collection} if answered and kind.collection else arm.collections
    return replace(
        arm,
        collections=tuple(sorted(collections)),
        assigned=arm.assigned + count * ours,
        served=arm.served + count * answered,
        fallbacks=arm.fallbacks + count * (ours and not answered and kind.served in ARMS and not kind.forced),
        errors=arm.errors + count * (ours and kind.status == "error"),
        forced=arm.forced + count * (ours and kind.forced),
    )
