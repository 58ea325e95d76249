"""Human grades on some of the pages take the judge's bias out of the effect.

A judge may prefer one arm's items for no good reason; then its effect is wrong however many pages it grades. Where each
page was given to people with a known probability q, whatever was on it,

    g_i + (h_i - g_i) / q  on pages with a human grade h_i,      g_i  on the others

has the mean of the human grades, for any prediction g_i from the judge's grade and earlier rows. So the effect of
these values is the effect in human grades, with the same sequences, and the better the judge predicts people, the
less of their work it takes (prediction-powered inference: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic 2023,
Science 382; with known probabilities Zrnic and Candes 2024, "Active statistical inference", whose betting form this
is).
"""

import numpy as np

from taoemb.rollout.statistics.adjust import GROWTH, regression

FIRST_FIT = 30
"""Human grades before the judge's are calibrated to them."""
FEWEST = 15
"""Pages of each arm, with and without a human grade, before ppi-python is asked."""


def corrected_values(judged: np.ndarray, human: np.ndarray, q: float) -> tuple[np.ndarray, tuple[float, float]]:
    """Values whose mean is that of the human grades, and their bounds: the `y` and `bounds` of `effect_sequence`.

    `judged` (n,) in [0, 1]; `human` (n,) in [0, 1], NaN where people were not asked; `q` in (0, 1]: the probability of
    asking them. Raises ValueError when q is not a probability.
    """
    if not 0 < q <= 1:
        raise ValueError(f"q {q}: the probability of a human grade must lie in (0, 1]")
    judged, human = np.asarray(judged, dtype=np.float64), np.asarray(human, dtype=np.float64)
    asked = np.isfinite(human)
    predicted = calibrated(judged, human)
    return predicted + np.where(asked, np.where(asked, human, 0.0) - predicted, 0.0) / q, (1 - 1 / q, 1 / q)


def calibrated(judged: np.ndarray, human: np.ndarray) -> np.ndarray:
    """(n,) the human grade that each of the judge's predicts, by a line through earlier pairs, within [0, 1]."""
    predicted = judged.copy()
    pairs = np.flatnonzero(np.isfinite(human))
    fitted = FIRST_FIT
    while fitted <= len(pairs):
        upcoming = int(fitted * GROWTH) + 1
        used = pairs[:fitted]
        mean, slope = regression(judged[used, None], human[used])
        start = pairs[fitted - 1] + 1
        predicted[start:] = human[used].mean() + (judged[start:, None] - mean) @ slope
        fitted = upcoming
    return np.clip(predicted, 0, 1)


def one_look_interval(judged: np.ndarray, human: np.ndarray, a: np.ndarray, alpha: float) -> tuple[float, float] | None:
    """Interval of the effect by ppi-python (PPI++), to hold the sequence against.

    Valid for large samples at one look that was chosen before; not under peeking. Arguments as above; `a` (n,) is true
    for the candidate, and each unit's chance to be in it must have been the same. None until each arm has some pages
    with a human grade, and some without.
    """
    asked, candidate = np.isfinite(human), np.asarray(a, dtype=bool)
    groups = [part & arm for part in (asked, ~asked) for arm in (candidate, ~candidate)]
    if min(int(group.sum()) for group in groups) < FEWEST:
        return None
    from ppi_py import ppi_ols_ci

    design = np.stack([np.ones(len(candidate)), candidate.astype(np.float64)], axis=1)
    low, high = ppi_ols_ci(
        design[asked], human[asked], judged[asked], design[~asked], judged[~asked], alpha=alpha, coord=1
    )
    return float(low[1]), float(high[1])
