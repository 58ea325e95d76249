"""What is true in a simulated rollout, and what goes wrong in it: chosen, so that the verdict can be held against it.

Time runs from 0 to 1 with the shoppers: 0 when the first comes, 1 when the last has gone.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from taoemb.errors import InputError
from taoemb.rollout.simulate.world import World
from taoemb.serving.traffic import ArmName

FADE = 0.1  # of the time, in which a novelty effect falls to 1/e
Victim = Literal["control", "candidate", "judge"]
_OUTAGE = re.compile(r"(control|candidate|judge):(0?\.\d+|0|1)-(0?\.\d+|1(?:\.0+)?)")


@dataclass(frozen=True)
class Outage:
    """Something does not answer at all for a while."""

    victim: Victim
    start: float
    end: float
    """Times from 0 to 1."""


def parse_outage(text: str) -> Outage:
    """`candidate:0.4-0.5` as an outage. Raises InputError."""
    found = _OUTAGE.fullmatch(text)
    if found is None or float(found[2]) >= float(found[3]):
        raise InputError(f"--outage {text!r}: expected control|candidate|judge:FROM-TO with 0 ≤ FROM < TO ≤ 1")
    victim: Victim = "control" if found[1] == "control" else "candidate" if found[1] == "candidate" else "judge"
    return Outage(victim, float(found[2]), float(found[3]))


@dataclass(frozen=True)
class Scenario:
    """The truth, in shares of good items on a page, and the judge's errors."""

    lift: float = 0.1
    """Candidate minus control, once any novelty has worn off."""
    drift: float = 0.0
    """Change of both arms from beginning to end."""
    novelty: float = 0.0
    """Added to the candidate's lift at the beginning; fades (see FADE)."""
    quality: float = 0.4
    """The control at the beginning."""
    judge_delay_s: float = 0.0
    """Seconds that the judge takes for each request at least."""
    judge_flips: float = 0.0
    """Share of the pairs that the judge grades at random, the same for both arms."""
    judge_prejudice: float = 0.0
    """Share of the pairs with an item that only the candidate's pages show which the judge calls Irrelevant, or, when
    negative, Excellent."""
    outages: tuple[Outage, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.judge_flips <= 1 or not -1 <= self.judge_prejudice <= 1 or self.judge_delay_s < 0:
            raise InputError("--judge-flips needs 0 to 1, --judge-prejudice -1 to 1, --judge-delay 0 or more seconds")

    def mean(self, arm: ArmName, time: float) -> float:
        """The true share of good items of an arm's pages at that time."""
        control = self.quality + self.drift * time
        return control if arm == "control" else control + self.lift + self.novelty * math.exp(-time / FADE)

    def lift_at(self, time: float) -> float:
        """Candidate minus control as assigned: none while one of them is away and the other answers for both."""
        if self.is_out("control", time) or self.is_out("candidate", time):
            return 0.0
        return self.mean("candidate", time) - self.mean("control", time)

    def is_out(self, victim: Victim, time: float) -> bool:
        """Whether it does not answer at that time."""
        return any(one.victim == victim and one.start <= time < one.end for one in self.outages)

    def judged_grades(self, world: World, seed: int) -> np.ndarray:
        """The grades that the judge gives, (Q, N) int8: the true ones with its errors."""
        rng = np.random.default_rng([seed, 7])
        grades_QN = world.grades_QN.copy()
        flipped_QN = rng.random(grades_QN.shape) < self.judge_flips
        grades_QN[flipped_QN] = rng.integers(1, 5, size=int(flipped_QN.sum()), dtype=np.int8)
        only_N = _shown(world, "candidate") & ~_shown(world, "control")
        misjudged_QN = only_N & (rng.random(grades_QN.shape) < abs(self.judge_prejudice))
        grades_QN[misjudged_QN] = 1 if self.judge_prejudice > 0 else 4
        return grades_QN


def _shown(world: World, arm: ArmName) -> np.ndarray:
    """Which items an arm's pages show, whatever the query, (N,) bool."""
    shown_N = np.zeros(world.grades_QN.shape[1], dtype=bool)
    shown_N[world.pages_QK[arm].ravel()] = True
    return shown_N
