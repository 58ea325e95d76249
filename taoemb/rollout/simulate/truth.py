"""Holds the verdict of a simulated rollout against what was true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from taoemb.rollout.simulate.options import Options
from taoemb.rollout.simulate.scenario import Scenario
from taoemb.rollout.simulate.world import Levels
from taoemb.rollout.state import RolloutState
from taoemb.serving.traffic import ArmName

_GRID = 2000


@dataclass(frozen=True)
class Held:
    """The truth beside the verdict; lifts in shares of good items."""

    lift: float
    """What remains of the candidate's gain in the long run."""
    average: float
    """Its mean over the graded units: what a right measurement finds."""
    judged: float
    """The same mean by the judge's grades: what this judge's errors make of it."""
    verdict_is: Literal["right", "wrong", "open"]
    """Open: nothing was decided, or the candidate was taken away in the simulation and failed for that."""
    text: str


def hold_against(
    options: Options,
    true: Mapping[ArmName, Levels],
    judged: Mapping[ArmName, Levels],
    shares: Sequence[tuple[float, float]],
    until: float,
    state: RolloutState,
) -> Held:
    """Compare: `shares` are (time, percent) changes of the split, `until` is the time when shopping ended."""
    scenario, plan = options.scenario, options.plan
    times = (np.arange(_GRID) + 0.5) * max(until, 1e-9) / _GRID
    weights = _weights(times, shares)
    average = _mean([scenario.lift_at(at) for at in times], weights)
    by_judge = _mean([_judged_lift(scenario, true, judged, at) for at in times], weights)
    goal = plan.margin if plan.goal == "superiority" else -plan.margin
    deserves = scenario.lift > goal
    verdict_is: Literal["right", "wrong", "open"]
    truth = f"the candidate {'meets' if deserves else 'does not meet'} the goal"
    if state.phase == "Promoted":
        said, verdict_is = "promoted", "right" if deserves else "wrong"
    elif not state.ended:
        said, verdict_is = "not decided when the last shopper had gone", "open"
    else:
        away = any(outage.victim == "candidate" for outage in scenario.outages)
        said = f"not promoted ({state.phase})"
        verdict_is = "right" if not deserves else "open" if away else "wrong"
    return Held(scenario.lift, average, by_judge, verdict_is, f"{said}; in truth {truth}")


def _weights(times: np.ndarray, shares: Sequence[tuple[float, float]]) -> np.ndarray:
    """Share of the units that is graded at each time: twice the smaller arm's (measurement.sampler)."""
    starts = np.array([at for at, _ in shares])
    percents = np.array([percent for _, percent in shares])
    p = percents[np.searchsorted(starts, times, side="right") - 1] / 100
    return np.minimum(p, 1 - p)


def _judged_lift(
    scenario: Scenario, true: Mapping[ArmName, Levels], judged: Mapping[ArmName, Levels], at: float
) -> float:
    if scenario.lift_at(at) == 0 and (scenario.is_out("control", at) or scenario.is_out("candidate", at)):
        return 0.0

    def mean(arm: ArmName) -> float:
        wrong = true[arm].wrong_share(scenario.mean(arm, at))
        return judged[arm].right * (1 - wrong) + judged[arm].wrong * wrong

    return mean("candidate") - mean("control")


def _mean(values: Sequence[float], weights: np.ndarray) -> float:
    return float(np.average(values, weights=weights)) if weights.sum() > 0 else float("nan")
