"""The verdict on a rollout: a pure function of its plan, where it stands, and what was measured."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["promote", "continue", "rollback", "inconclusive"]


@dataclass(frozen=True)
class Reason:
    """One check: what it is, what it found, and which way it points."""

    check: str
    """E.g. `item_goodrate`, `item_goodrate on negation`, `sample ratio`, `units`, `time`."""
    points_to: Outcome | Literal["next step"]
    text: str
    """One sentence with its numbers."""


@dataclass(frozen=True)
class Verdict:
    """What to do now; `next_step` says that a rollout that continues goes on to its next step."""

    outcome: Outcome
    reasons: Sequence[Reason]
    next_step: bool = False


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands when it is judged."""

    step: int
    """Index into the plan's steps."""
    in_step_s: float


def to_json(verdict: Verdict) -> dict[str, Any]:
    """As a JSON object."""
    return dataclasses.asdict(verdict) | {"reasons": [dataclasses.asdict(reason) for reason in verdict.reasons]}
