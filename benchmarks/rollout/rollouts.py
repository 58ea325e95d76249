"""One simulated rollout at a time: its measurements at every look, and what the real `decide` made of them."""

from collections.abc import Iterator, Mapping

import numpy as np
from classical import z_scores
from shop_traffic import PLAN, SLICES, UNITS_A_LOOK, Graded, Schedule, batches, draw, schedule, true_effect

from taoemb.rollout.measurement.measured import Estimate, Measurement, SampleRatio
from taoemb.rollout.plan import LOWER_IS_BETTER
from taoemb.rollout.statistics.correction import corrected_values
from taoemb.rollout.statistics.effect import effect_sequence
from taoemb.rollout.statistics.multiplicity import levels
from taoemb.rollout.statistics.sample_ratio import sample_ratio_sequence
from taoemb.rollout.statistics.sequence import ConfidenceSequence
from taoemb.rollout.verdict import Standing, decide

LEVELS = levels(PLAN, SLICES)
RARE = {"error_rate": 0.002, "empty_rate": 0.01}
Z = 1.6448536269514722  # one-sided 5 %


def decided(seed: list[int], lift: float, looks: int, planned: int) -> dict[str, float]:
    """One rollout of a candidate with this true lift, under drift of both arms.

    What `decide` made of it and when, whether the primary metric's interval alone ever lay above 0, and what two usual
    tests would have said: one z-test at the planned sample size (or the end), and a z-test at every look.
    """
    random = np.random.default_rng(seed)
    plan = schedule(PLAN, looks)
    graded = draw(random, plan, np.full(looks, lift))
    outcome, look = _walk(plan, list(measurements(random, plan, graded)))
    z = z_scores(graded.y, graded.a, plan.graded)
    fixed = z_scores(graded.y, graded.a, np.array([min(planned, len(graded.y))]))[0]
    peeked = np.flatnonzero(z > Z)
    low = _primary(graded, plan.graded).low
    return {
        "promoted": outcome == "promote",
        "rolled_back": outcome == "rollback",
        "graded": int(plan.graded[look]),
        "crossed": bool(np.any(low > 0)),
        "crossed_at": int(plan.graded[np.argmax(low > 0)]) if np.any(low > 0) else -1,
        "fixed": bool(fixed > Z),
        "peeked": len(peeked) > 0,
        "peeked_at": int(plan.graded[peeked[0]]) if len(peeked) else -1,
    }


def _walk(plan: Schedule, measurements: list[Measurement]) -> tuple[str, int]:
    for look, measurement in enumerate(measurements):
        verdict = decide(PLAN, Standing(int(plan.step[look]), 60.0), measurement)
        if verdict.outcome != "continue":
            return verdict.outcome, look
        if look + 1 < len(measurements) and verdict.next_step != (plan.step[look + 1] > plan.step[look]):
            raise RuntimeError(f"look {look}: the verdict and the simulated schedule disagree about the next step")
    return "continue", len(measurements) - 1


def _primary(graded: Graded, at: np.ndarray) -> ConfidenceSequence:
    half = np.full(len(graded.y), 0.5)
    return effect_sequence(graded.y, graded.a, half, alpha=LEVELS["item_goodrate", "all"], at=at)


def measurements(
    random: np.random.Generator,
    plan: Schedule,
    graded: Graded,
    hidden: np.ndarray | None = None,
    rare: Mapping[str, float] = RARE,
) -> Iterator[Measurement]:
    """What is measured at each look; `hidden` (units,): sampled pages that the judge left without any grade."""
    share = plan.percent[batches(plan.units)] / 100
    a = random.random(len(share)) < share
    hidden = np.zeros(len(graded.y), dtype=bool) if hidden is None else hidden
    least, most = np.where(hidden, 0.0, graded.y), np.where(hidden, 1.0, graded.y)
    half = np.full(len(graded.y), 0.5)
    found = [series("item_goodrate", "all", least, graded.a, half, plan.graded, most)]
    for number, name in enumerate(SLICES, start=1):
        inside = graded.slice == number
        at = _counted(inside)[plan.graded]
        found.append(series("item_goodrate", name, least[inside], graded.a[inside], half[inside], at, most[inside]))
    for metric, rate in rare.items():
        y = (random.random(len(a)) < rate).astype(np.float64)
        found.append(series(metric, "all", y, a, share, plan.units))
    ratios = _ratios(a, share, plan.units)
    answered = _ratios(graded.a[~hidden], half[~hidden], _counted(~hidden)[plan.graded])
    unanswered = _counted(hidden)[plan.graded]
    for look, estimates in enumerate(zip(*found, strict=True)):
        yield Measurement(
            at=60.0 * look,
            pages=int(plan.units[look]),
            graded=int(plan.graded[look] - unanswered[look]),
            unanswered=int(unanswered[look]),
            estimates=estimates,
            sample_ratio=ratios[look],
            answered_ratio=answered[look],
            units_in_step=int(plan.graded_in_step[look]),
        )


def _ratios(a: np.ndarray, p: np.ndarray, at: np.ndarray) -> list[SampleRatio]:
    p_values, assigned = sample_ratio_sequence(a, p, at), _counted(a)[at]
    expected = np.concatenate([[0.0], np.cumsum(p)])[at]
    return [
        SampleRatio(int(n - candidate), int(candidate), float(share), float(p_value))
        for n, candidate, share, p_value in zip(at, assigned, expected, p_values, strict=True)
    ]


def _counted(inside: np.ndarray) -> np.ndarray:
    """How many of the first n are inside, for n = 0 … N."""
    return np.concatenate([[0], np.cumsum(inside)])


def series(
    metric: str,
    slice: str,
    y: np.ndarray,
    a: np.ndarray,
    p: np.ndarray,
    at: np.ndarray,
    most: np.ndarray | None = None,
) -> list[Estimate]:
    """A metric's estimate at each look. With `most`, values lie between `y` and it, as of pages without grades."""
    sides = LEVELS[metric, slice]
    sequence = effect_sequence(y, a, p, alpha=sides, at=at, most=most)
    candidates = _counted(a)[at]
    return [
        Estimate(
            metric=metric,
            slice=slice,
            n_control=int(n - candidate),
            n_candidate=int(candidate),
            control=None,
            candidate=None,
            effect=None if np.isinf(low) else float(center),
            low=float(low),
            high=float(high),
            alpha=sides.alpha,
            higher_is_better=metric not in LOWER_IS_BETTER,
        )
        for n, candidate, center, low, high in zip(
            at, candidates, sequence.center, sequence.low, sequence.high, strict=True
        )
    ]


def covered(seed: list[int], looks: int = 24) -> dict[str, float]:
    """Whether a novelty effect (+10 points that wear off) under strong drift stays in the interval at every look."""
    random = np.random.default_rng(seed)
    plan = schedule(PLAN, looks)
    lift = 0.1 * np.exp(-np.arange(looks) / 6)
    graded = draw(random, plan, lift, drift=0.12)
    truth = np.cumsum(true_effect(graded.time, lift, drift=0.12))[plan.graded - 1] / plan.graded
    half = np.full(len(graded.y), 0.5)
    sequence = effect_sequence(graded.y, graded.a, half, alpha=0.05, at=plan.graded)
    z_center = 1.959963984540054
    arms = [np.cumsum(np.where(graded.a == one, graded.y, 0))[plan.graded - 1] for one in (True, False)]
    counts = [np.maximum(np.cumsum(graded.a == one)[plan.graded - 1], 1) for one in (True, False)]
    difference = arms[0] / counts[0] - arms[1] / counts[1]
    spread = graded.y.std() * np.sqrt(1 / counts[0] + 1 / counts[1])
    return {
        "missed": bool(np.any((sequence.low > truth) | (sequence.high < truth))),
        "usual_missed": bool(np.any(np.abs(difference - truth) > z_center * spread)),
    }


def false_crossings(seed: list[int], metric: str, looks: int = 24) -> dict[str, float]:
    """Equal arms, shares that step up, and metrics that the judge has no part in: does the interval ever exclude 0?"""
    random = np.random.default_rng(seed)
    plan = schedule(PLAN, looks)
    time = batches(plan.units)
    share = plan.percent[time] / 100
    a = random.random(len(share)) < share
    wave = 1 + 0.3 * np.sin(2 * np.pi * time / 12)
    if metric == "latency_ms":
        y, bounds = 40 * wave * random.lognormal(0, 0.6, len(a)), None
    else:
        rate = {"conversion_rate": 0.03, "click_rate": 0.35}[metric]
        y, bounds = random.random(len(a)) < rate * wave, (0.0, 1.0)
    sequence = effect_sequence(y, a, share, alpha=0.1, bounds=bounds, at=plan.units)
    return {"low": bool(np.any(sequence.low > 0)), "high": bool(np.any(sequence.high < 0))}


def with_history(seed: list[int], lift: float, n: int = 16_000) -> dict[str, float]:
    """Units whose earlier pages tell something about their next one; a fifth of the units is new."""
    random = np.random.default_rng(seed)
    habit = random.beta(3, 1.2, n)
    y = random.binomial(10, habit, n) / 10
    x = np.where(random.random(n) < 0.2, np.nan, random.binomial(40, habit, n) / 40)
    a = random.random(n) < 0.5
    y = np.where(a & (random.random(n) < lift / (1 - y.mean())), 1.0, y)
    at = np.arange(UNITS_A_LOOK, n + 1, UNITS_A_LOOK)
    found = {}
    for name, covariate in (("without", None), ("with", x)):
        sequence = effect_sequence(y, a, np.full(n, 0.5), alpha=0.1, x=covariate, at=at)
        above = np.flatnonzero(sequence.low > 0)
        found[f"{name}_at"] = int(at[above[0]]) if len(above) else -1
        found[f"{name}_width"] = float(sequence.high[-1] - sequence.low[-1])
    return found


def with_people(seed: list[int], favour: float, n: int = 8_000, q: float = 0.2) -> dict[str, float]:
    """Equal arms and a judge that likes the candidate's bad pages: the judge alone, people alone, and both."""
    random = np.random.default_rng(seed)
    human = (random.random(n) < 0.7).astype(np.float64)
    a = random.random(n) < 0.5
    judged = np.where(random.random(n) < 0.08, 1 - human, human)
    judged = np.where(a & (human == 0) & (random.random(n) < favour), 1.0, judged)
    asked = random.random(n) < q
    values, bounds = corrected_values(judged, np.where(asked, human, np.nan), q)
    at = np.arange(UNITS_A_LOOK, n + 1, UNITS_A_LOOK)
    half = np.full(n, 0.5)
    sequences = {
        "judge": effect_sequence(judged, a, half, alpha=0.1, at=at),
        "both": effect_sequence(values, a, half, alpha=0.1, bounds=bounds, at=at),
        "people": effect_sequence(human[asked], a[asked], half[asked], alpha=0.1, at=np.cumsum(asked)[at - 1]),
    }
    found = {}
    for name, sequence in sequences.items():
        found[f"{name}_false"] = bool(np.any(sequence.low > 0))
        found[f"{name}_width"] = float(sequence.high[-1] - sequence.low[-1])
    return found


def split(seed: list[int], lost: float, looks: int = 40) -> dict[str, float]:
    """The sample-ratio check under stepping shares, when this part of the candidate's units never arrives."""
    random = np.random.default_rng(seed)
    plan = schedule(PLAN, looks)
    share = plan.percent[batches(plan.units)] / 100
    a = random.random(len(share)) < share
    arrived = ~a | (random.random(len(a)) >= lost)
    p_values = sample_ratio_sequence(a[arrived], share[arrived])
    found = np.flatnonzero(p_values < PLAN.sample_ratio_alpha)
    return {"alarm": len(found) > 0, "at": int(found[0]) + 1 if len(found) else -1}
