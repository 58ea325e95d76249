"""Rollouts whose judge leaves pages unanswered, for reasons that lie in the pages: by arm, by quality, by slice."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from rollouts import LEVELS, measurements
from shop_traffic import PLAN, SLICES, Graded, Schedule, draw, schedule

from taoemb.rollout.statistics.effect import effect_sequence
from taoemb.rollout.verdict import Standing, decide

PLAN_OF_GRADES = PLAN.model_copy(
    update={"guardrails": tuple(one for one in PLAN.guardrails if one.metric == "item_goodrate")}
)
"""Without the guardrails that need no judge: they hold promotions up and nothing here is about them."""
BAD = 0.5
"""Pages with at most this share of good items are bad: about a fifth of them."""
Hide = Callable[[Graded], np.ndarray]
"""(units,) the probability that the judge leaves each page unanswered."""


def _bad_of_the_candidate(graded: Graded, share: float) -> np.ndarray:
    return np.where(graded.a & (graded.y <= BAD), share, 0.0)


def _worst_of_one_best_of_the_other(graded: Graded) -> np.ndarray:
    """What deceives most and leaves the counts even: an arm hides its empty pages, the other its perfect ones."""
    empty, perfect = graded.y <= 0.3, graded.y == 1
    balance = np.mean(graded.a & empty) / max(np.mean(~graded.a & perfect), 1e-9)
    return np.where(graded.a & empty, 0.5, np.where(~graded.a & perfect, 0.5 * balance, 0.0))


HIDES: dict[str, Hide] = {
    "10 % of the candidate's bad pages": lambda graded: _bad_of_the_candidate(graded, 0.1),
    "20 % of the candidate's bad pages": lambda graded: _bad_of_the_candidate(graded, 0.2),
    "20 % of both arms' bad pages": lambda graded: np.where(graded.y <= BAD, 0.2, 0.0),
    f"half of the candidate's bad pages on {SLICES[0]}": lambda graded: np.where(
        graded.slice == 1, _bad_of_the_candidate(graded, 0.5), 0.0
    ),
    "half of the candidate's worst pages, as many of the control's perfect ones": _worst_of_one_best_of_the_other,
}


def chances(hide: str | float, graded: Graded) -> np.ndarray:
    """(units,) of a way of `HIDES`, or the same for every page."""
    return HIDES[hide](graded) if isinstance(hide, str) else np.full(len(graded.y), hide)


def hidden_rollout(
    seed: list[int], hide: str | float, lift: float, looks: int, *, compare: bool = False, quick: bool = False
) -> dict[str, float]:
    """One rollout of a candidate with this true lift; `compare` also decides on the answered pages alone.
    `quick` only asks whether it is promoted, and measures no slices where the primary metric rules that out.

    A look that holds the step for the share of open pages is followed by the next step all the same: the shares'
    pace has no part in what is promoted.
    """
    random = np.random.default_rng(seed)
    plan = schedule(PLAN, looks)
    graded = draw(random, plan, np.full(looks, lift))
    hidden = random.random(len(graded.y)) < chances(hide, graded)
    if quick and not _may_be_promoted(plan, graded, hidden):
        return {"promoted": False, "graded": int(plan.graded[-1]), "hidden": float(hidden.mean())}
    outcome, look, held = "continue", looks - 1, False
    for at, measurement in enumerate(measurements(random, plan, graded, hidden, {})):
        verdict = decide(PLAN_OF_GRADES, Standing(int(plan.step[at]), 60.0), measurement)
        held |= any(one.check == "answered pages" and one.points_to == "continue" for one in verdict.reasons)
        if verdict.outcome != "continue":
            outcome, look = verdict.outcome, at
            break
    found = {
        "promoted": outcome == "promote",
        "rolled_back": outcome == "rollback",
        "held": held and outcome == "continue",
        "graded": int(plan.graded[look]),
        "hidden": float(hidden.mean()),
    }
    if compare:
        found["dropped"] = _promoted_on_answered(seed, plan, graded, hidden)
    return found


def _may_be_promoted(plan: Schedule, graded: Graded, hidden: np.ndarray) -> bool:
    """Whether the primary metric's interval lies above 0 at any look of the last step, without which none promotes."""
    least, most = np.where(hidden, 0.0, graded.y), np.where(hidden, 1.0, graded.y)
    at = plan.graded[plan.step == len(PLAN.steps) - 1]
    sides = LEVELS["item_goodrate", "all"]
    return bool(
        np.any(effect_sequence(least, graded.a, np.full(len(least), 0.5), alpha=sides, at=at, most=most).low > 0)
    )


def _promoted_on_answered(seed: list[int], plan: Schedule, graded: Graded, hidden: np.ndarray) -> bool:
    """The same rollout as if pages without grades had never been drawn."""
    random = np.random.default_rng([*seed, 1])
    kept = np.concatenate([[0], np.cumsum(~hidden)])
    known = Graded(graded.y[~hidden], graded.a[~hidden], graded.slice[~hidden], graded.time[~hidden])
    counted = replace(plan, graded=kept[plan.graded])
    for at, measurement in enumerate(measurements(random, counted, known, None, {})):
        outcome = decide(PLAN_OF_GRADES, Standing(int(plan.step[at]), 60.0), measurement).outcome
        if outcome != "continue":
            return outcome == "promote"
    return False
