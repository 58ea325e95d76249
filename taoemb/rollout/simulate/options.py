"""What a simulated rollout is asked for, and the plan it follows when none is given."""

from dataclasses import dataclass, field
from pathlib import Path

from taoemb.config import Config
from taoemb.rollout.plan import Guardrail, Plan, SliceRule, Step
from taoemb.rollout.simulate.scenario import Scenario

PLAN = Plan(
    steps=(Step(percent=10, min_units=100), Step(percent=50, min_units=200)),
    depth=5,
    guardrails=(Guardrail(metric="error_rate", margin=0.05), Guardrail(metric="empty_rate", margin=0.05)),
    slices=(
        SliceRule(name="negation", pattern=r"\b(not?|non|without)\b"),
        SliceRule(name="question", pattern=r"^(what|which|how)\b"),
    ),
    look_every_s=1.0,
    event_window_s=2.0,
)
"""The plan of a simulation that is given none."""


@dataclass(frozen=True)
class Options:
    """What `taoemb rollout simulate` is asked for."""

    out: Path
    scenario: Scenario
    plan: Plan = PLAN
    data: Path | None = None
    shoppers: int = 4000
    queries: int = 150
    items: int = 1500
    concurrency: int = 8
    rate: float = 0.0
    """Searches a second; 0: as fast as they are answered."""
    seed: int = 0
    config: Config = field(default_factory=Config)
    """Settings of the gateway, the events database and the judge's client."""
