"""Simulated traffic of a rollout: shares that step up, pages with realistic grades, quality that drifts.

Time goes from look to look. At each look a batch of units has come; of these the sampler grades as many of the
control as of the candidate, so graded units are split evenly whatever the share is.
"""

from dataclasses import dataclass

import numpy as np

from taoemb.rollout.plan import Guardrail, Plan, Step

SLICES = ("negation", "long-tail", "question")
SLICE_SHARES = (0.5, 0.2, 0.2, 0.1)  # of queries: none of these slices, then each one
UNITS_A_LOOK = 500
PLAN = Plan(
    steps=(
        Step(percent=1, min_units=20),
        Step(percent=5, min_units=50),
        Step(percent=25, min_units=250),
        Step(percent=50, min_units=500),
    ),
    guardrails=(
        Guardrail(metric="error_rate", margin=0.01),
        Guardrail(metric="empty_rate", margin=0.02),
        Guardrail(metric="item_goodrate", slice="*", margin=0.1),
    ),
)


@dataclass(frozen=True)
class Schedule:
    """Which step each look belongs to, and how many units had come and were graded by then (arrays over looks)."""

    step: np.ndarray
    percent: np.ndarray
    units: np.ndarray
    graded: np.ndarray
    graded_in_step: np.ndarray


@dataclass(frozen=True)
class Graded:
    """Graded units in order: `y` item goodrate, `a` whether the candidate's, `slice` (0: none), `time` in looks."""

    y: np.ndarray
    a: np.ndarray
    slice: np.ndarray
    time: np.ndarray


def schedule(plan: Plan, looks: int) -> Schedule:
    """The steps of a rollout that nothing stops: the next one as soon as the present one has its minimum."""
    step, in_step, rows = 0, 0, []
    units = graded = 0
    for _ in range(looks):
        share = plan.steps[step].percent / 100
        units += UNITS_A_LOOK
        batch = round(2 * min(share, 1 - share) * UNITS_A_LOOK)
        graded, in_step = graded + batch, in_step + batch
        rows.append((step, plan.steps[step].percent, units, graded, in_step))
        if in_step >= plan.steps[step].min_units and step + 1 < len(plan.steps):
            step, in_step = step + 1, 0
    return Schedule(*(np.array(column) for column in zip(*rows, strict=True)))


def batches(totals: np.ndarray) -> np.ndarray:
    """(units,) number of the look that each unit came before."""
    return np.repeat(np.arange(len(totals)), np.diff(totals, prepend=0))


def quality(random: np.random.Generator, time: np.ndarray, drift: float) -> np.ndarray:
    """Item goodrate of pages: many perfect ones, the rest good in a part of ten places; day and trend move them."""
    wave = drift * (np.sin(2 * np.pi * time / 12) + time / 24)
    perfect = random.random(len(time)) < 0.45 + wave
    places = random.binomial(10, random.beta(4, 3, len(time)))
    return np.where(perfect, 1.0, places / 10)


def draw(random: np.random.Generator, plan_looks: Schedule, lift: np.ndarray, drift: float = 0.05) -> Graded:
    """Graded pages; `lift` (looks,) is what the candidate adds to the mean, by bettering or worsening whole pages."""
    time = batches(plan_looks.graded)
    a = random.random(len(time)) < 0.5
    y = quality(random, time, drift)
    change = np.where(a, lift[time], 0.0)
    rest = 1 - MEAN if np.any(lift > 0) else MEAN
    hit = random.random(len(y)) < np.abs(change) / rest
    y = np.where(hit, (change > 0).astype(float), y)
    return Graded(y, a, random.choice(len(SLICE_SHARES), len(y), p=SLICE_SHARES), time)


MEAN = 0.45 + 0.55 * 4 / 7
"""Mean of `quality` without drift."""


def true_effect(time: np.ndarray, lift: np.ndarray, drift: float) -> np.ndarray:
    """(units,) the candidate's true effect at each unit's time, for lifts >= 0: it moves, as there is less to gain."""
    wave = drift * (np.sin(2 * np.pi * time / 12) + time / 24)
    mean = (0.45 + wave) + (0.55 - wave) * 4 / 7
    return lift[time] * (1 - mean) / (1 - MEAN)
