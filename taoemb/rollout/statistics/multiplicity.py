"""Which interval gets which part of the plan's error probabilities.

Promotion needs every judged check at once: the goal and all guardrails (an intersection-union test). Whichever of
them is violated in truth would have to err by itself, so each check has the whole `alpha` and the promotion as a
whole errs with `alpha` at most (Berger 1982; for guardrails Schultzberg, Ankargren and Fraanberg 2024, "Risk-aware
product decisions in A/B tests with multiple metrics"). A rollback needs only one check to cry: their errors add up,
so `harm_alpha` is divided by the number of checks (Bonferroni).
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import get_args

from taoemb.rollout.plan import ALL, LOWER_IS_BETTER, MetricName, Plan
from taoemb.rollout.statistics.sequence import Sides

CATEGORY = "category:"


def checks(plan: Plan, slices: Iterable[str]) -> list[tuple[str, str, float]]:
    """Every guardrail as (metric, slice, margin), its pattern of slices resolved.

    `*` stands for all queries together and each slice that is no category: a shop has many of these, and each check
    makes all others wait longer. `category:*` asks for them. A pair that is named twice keeps its smallest margin.
    """
    found: dict[tuple[str, str], float] = {}
    names = list(slices)
    for guardrail in plan.guardrails:
        for one in _named(guardrail.slice, names):
            key = (guardrail.metric, one)
            found[key] = min(guardrail.margin, found.get(key, guardrail.margin))
    return [(metric, one, margin) for (metric, one), margin in found.items()]


def _named(pattern: str, slices: Iterable[str]) -> list[str]:
    if pattern == "*":
        return [ALL, *(one for one in slices if one != ALL and not one.startswith(CATEGORY))]
    return [one for one in slices if fnmatchcase(one, pattern)] if "*" in pattern else [pattern]


def levels(plan: Plan, slices: Iterable[str]) -> Mapping[tuple[str, str], Sides]:
    """The error probability of each end of each interval, for all metrics on `all` and on each slice.

    `slices` are all slices that the plan can have, whether they have units yet or not: the number of checks must
    not depend on what is seen. The end towards worse decides promotion, the end towards better decides rollback.
    Intervals that decide nothing get `alpha` in all.
    """
    names = [ALL, *(one for one in dict.fromkeys(slices) if one != ALL)]
    judged = dict.fromkeys([(plan.metric, ALL), *((metric, one) for metric, one, _ in checks(plan, names))])
    harm = plan.harm_alpha / len(judged)
    found = {}
    for metric in get_args(MetricName):
        for one in dict.fromkeys([*names, *(name for named, name in judged if named == metric)]):
            if (metric, one) not in judged:
                found[metric, one] = Sides(plan.alpha / 2, plan.alpha / 2)
            elif metric in LOWER_IS_BETTER:
                found[metric, one] = Sides(low=harm, high=plan.alpha)
            else:
                found[metric, one] = Sides(low=plan.alpha, high=harm)
    return found
