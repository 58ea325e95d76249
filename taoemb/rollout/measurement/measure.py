"""One look at a rollout: every metric on every slice as an estimate with the interval that the verdict reads.

Assignment decides the arm of a unit, whoever answered it in the end (intention to treat). Everything follows from the
observations alone, so looking again, or from another process, gives the same.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from taoemb.rollout.measurement.measured import Estimate, Measurement, SampleRatio
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.page_metrics import BOUNDS, FREE, GRADED, OUTCOMES
from taoemb.rollout.measurement.paired import Paired, side_by_side
from taoemb.rollout.measurement.sampler import GRADED_SHARE
from taoemb.rollout.measurement.slicing import Slicer
from taoemb.rollout.plan import ALL, LOWER_IS_BETTER, Plan
from taoemb.rollout.statistics.adjust import earlier_in_group
from taoemb.rollout.statistics.bounded import mean_sequence
from taoemb.rollout.statistics.correction import corrected_values, one_look_interval
from taoemb.rollout.statistics.effect import arm_means, effect_sequence
from taoemb.rollout.statistics.multiplicity import checks, levels
from taoemb.rollout.statistics.sample_ratio import sample_ratio_sequence
from taoemb.rollout.statistics.sequence import Sides
from taoemb.serving.events.rows import PageKind
from taoemb.serving.traffic import ArmName


@dataclass(frozen=True)
class Values:
    """What one metric has seen: the rows of M units in order, and their values."""

    rows: np.ndarray  # (M,) int64
    y: np.ndarray  # (M,) float64; nan: not known, it lies between least and most
    p: np.ndarray  # (M,) float64, the candidate's share among the units that this metric looks at
    bounds: tuple[float, float] | None = (0.0, 1.0)
    least: np.ndarray | None = None  # (M,) float64; None: all are known
    most: np.ndarray | None = None


def measure(
    plan: Plan,
    seen: Observations,
    slicer: Slicer,
    releases: Mapping[ArmName, str],
    now: float,
    preferences: Paired,
    step: int = 0,
) -> Measurement:
    """The measurement at `now` (Unix seconds) of all that was read into `seen`.

    `releases` are the digests of both arms; `preferences` the interleaved pages' values (empty in an A/B test); `step`
    is the index of the plan's present step.
    """
    masks = _masks(seen, slicer)
    values = single_values(plan, seen)
    pairs: dict[str, Paired] = {"gsb": side_by_side(seen, _settled(seen)), "preference": preferences}
    queries = _query_codes(seen)
    estimates = []
    for (metric, one), sides in measured_levels(plan, slicer).items():
        if metric in pairs:
            estimates.append(_of_pairs(metric, one, pairs[metric], masks[one], sides))
        elif metric in values:
            x = seen.number("history") if metric == plan.metric and plan.history is not None else None
            estimates.append(
                _of_arms(metric, one, values[metric], seen.flag("candidate"), masks[one], sides, queries, x)
            )
    settled = seen.graded_until()
    sampled = seen.flag("sampled")
    decisive = pairs[plan.metric].rows if plan.metric in pairs else values[plan.metric].rows
    return Measurement(
        at=now,
        pages=sum(count for kind, count in seen.kinds.items() if not kind.forced),
        graded=int((sampled[:settled] & ~np.isnan(seen.number("item_goodrate")[:settled])).sum()),
        unanswered=seen.unanswered(),
        estimates=sorted(estimates, key=lambda one: (one.metric, one.slice != ALL, one.slice)),
        sample_ratio=_sample_ratio(seen.flag("candidate"), seen.number("p")),
        answered_ratio=_answered_ratio(seen),
        mismatches=mismatches(seen.kinds, releases),
        waiting=len(seen.waiting()),
        waiting_for_people=len(seen.for_people()),
        one_look=_one_look(plan, seen, decisive),
        units_in_step=int((seen.number("p")[decisive] == plan.steps[step].percent / 100).sum()),
    )


def measured_levels(plan: Plan, slicer: Slicer) -> dict[tuple[str, str], Sides]:
    """What is measured, each with its levels: all metrics on all queries, the plan's on each slice, what is guarded."""
    guarded = {(metric, one) for metric, one, _ in checks(plan, slicer.names)}
    return {
        (metric, one): sides
        for (metric, one), sides in levels(plan, slicer.names).items()
        if one == ALL or metric == plan.metric or (metric, one) in guarded
    }


def single_values(plan: Plan, seen: Observations) -> dict[str, Values]:
    """The values of every metric that one page has by itself."""
    everyone = np.arange(len(seen))
    p = seen.number("p")
    columns = {
        "error_rate": seen.flag("error"),
        "empty_rate": seen.flag("empty"),
        "latency_ms": seen.number("latency_ms"),
    }
    found: dict[str, Values] = {
        name: Values(everyone, columns[name].astype(np.float64), p, BOUNDS[name]) for name in FREE
    }
    ripe = np.arange(seen.closed)
    for name, event in OUTCOMES.items():
        found[name] = Values(ripe, seen.outcome(event)[ripe].astype(np.float64), p[ripe])
    settled = np.array(_settled(seen), dtype=np.int64)
    if plan.human is not None:
        settled = settled[: _answered_by_people(seen, settled)]
    half = np.full(len(settled), GRADED_SHARE)
    for name in GRADED:
        least, most = seen.number(f"least_{name}")[settled], seen.number(f"most_{name}")[settled]
        if plan.human is None:
            found[name] = Values(settled, seen.number(name)[settled], half, BOUNDS[name], least, most)
            continue
        human = np.where(seen.flag("asked"), seen.number(f"human_{name}"), np.nan)[settled]
        corrected, bounds = corrected_values((least + most) / 2, human, plan.human_share)  # any prediction will do
        found[name] = Values(settled, corrected, half, bounds)
    overlaps = seen.number("bm25_overlap")
    known = np.flatnonzero(~np.isnan(overlaps))
    if plan.catalogue is not None:
        found["bm25_overlap"] = Values(known, overlaps[known], np.full(len(known), GRADED_SHARE))
    return found


def mismatches(kinds: Mapping[PageKind, int], releases: Mapping[ArmName, str]) -> int:
    """Pages that an arm answered with another release than its own, or from a collection that is not its release's.

    A release is bound to one collection; of several, all but the most used one are wrong.
    """
    wrong = 0
    collections: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for kind, count in kinds.items():
        if kind.served not in releases or not kind.release:
            continue
        if kind.release != releases["control" if kind.served == "control" else "candidate"]:
            wrong += count
        else:
            collections[kind.release][kind.collection] += count
    return wrong + sum(sum(used.values()) - max(used.values()) for used in collections.values())


def _settled(seen: Observations) -> list[int]:
    """Rows of the sampled units that the judge came to, answered or not, up to the first one that waits for it."""
    return np.flatnonzero(seen.flag("sampled")[: seen.graded_until()]).tolist()


def _one_look(plan: Plan, seen: Observations, rows: np.ndarray) -> tuple[float, float] | None:
    """ppi-python's interval of the plan's metric, at the level of a promotion's two-sided test."""
    if plan.human is None or plan.metric not in GRADED:
        return None
    human = np.where(seen.flag("asked"), seen.number(f"human_{plan.metric}"), np.nan)[rows]
    judged = (seen.number(f"least_{plan.metric}") + seen.number(f"most_{plan.metric}"))[rows] / 2
    return one_look_interval(judged, human, seen.flag("candidate")[rows], 2 * plan.alpha)


def _answered_by_people(seen: Observations, settled: np.ndarray) -> int:
    """How many of these rows, from the first, come before one that waits for people."""
    waiting = (seen.flag("asked") & np.isnan(seen.number("human_item_goodrate")))[settled]
    return int(waiting.argmax()) if waiting.any() else len(settled)


def _masks(seen: Observations, slicer: Slicer) -> dict[str, np.ndarray]:
    """(N,) bool of each slice."""
    masks: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(seen), dtype=bool))
    rows: dict[str, list[int]] = defaultdict(list)
    for row, arrival in enumerate(seen.arrivals):
        for name in slicer.slices(arrival.query):
            rows[name].append(row)
    for name, inside in rows.items():
        masks[name][inside] = True
    masks[ALL] = np.ones(len(seen), dtype=bool)
    return masks


def _query_codes(seen: Observations) -> np.ndarray:
    """(N,) int64: the same number for pages of the same query."""
    codes: dict[str, int] = {}
    return np.array([codes.setdefault(arrival.query, len(codes)) for arrival in seen.arrivals], dtype=np.int64)


def _of_arms(
    metric: str,
    one: str,
    values: Values,
    candidate: np.ndarray,
    mask: np.ndarray,
    sides: Sides,
    queries: np.ndarray,
    history: np.ndarray | None,
) -> Estimate:
    inside = mask[values.rows]
    rows, y, p = values.rows[inside], values.y[inside], values.p[inside]
    a = candidate[rows]
    least, most = (y if ends is None else ends[inside] for ends in (values.least, values.most))
    columns = [earlier_in_group((least + most) / 2, queries[rows]), *([] if history is None else [history[rows]])]
    x = np.stack(columns, axis=1)
    sequence = effect_sequence(least, a, p, alpha=sides, bounds=values.bounds, x=x, at=np.array([len(y)]), most=most)
    effect, low, high = sequence.last
    known = ~np.isnan(y)
    control_mean, candidate_mean = arm_means(y[known], a[known])
    n_candidate = int(a[known].sum())
    return Estimate(
        metric=metric,
        slice=one,
        n_control=int(known.sum()) - n_candidate,
        n_candidate=n_candidate,
        control=control_mean,
        candidate=candidate_mean,
        effect=effect,
        low=float(low),
        high=float(high),
        alpha=sides.alpha,
        higher_is_better=metric not in LOWER_IS_BETTER,
    )


def _of_pairs(metric: str, one: str, pairs: Paired, mask: np.ndarray, sides: Sides) -> Estimate:
    inside = mask[pairs.rows]
    count = int(inside.sum())
    least, most = (
        mean_sequence(values[inside], alpha=sides, bounds=(-1.0, 1.0), at=np.array([count]))
        for values in (pairs.values if ends is None else ends for ends in (pairs.least, pairs.most))
    )
    effect = float(pairs.values[inside].mean()) if least.last[0] is not None else None
    low, high = float(least.last[1]), float(most.last[2])
    return Estimate(metric, one, count, count, None, None, effect, low, high, sides.alpha)


def _answered_ratio(seen: Observations) -> SampleRatio | None:
    """Whether the judge answers as many pages of one arm as of the other; of those up to the first that waits."""
    until = seen.graded_until()
    answered = (seen.flag("sampled") & ~np.isnan(seen.number("item_goodrate")))[:until]
    if not answered.any():
        return None
    return _sample_ratio(seen.flag("candidate")[:until][answered], np.full(int(answered.sum()), GRADED_SHARE))


def _sample_ratio(candidate: np.ndarray, p: np.ndarray) -> SampleRatio:
    n_candidate = int(candidate.sum())
    p_values = sample_ratio_sequence(candidate, p, np.array([len(p)]))
    return SampleRatio(len(p) - n_candidate, n_candidate, float(p.sum()), float(p_values[-1]))
