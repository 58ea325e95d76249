import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from taoemb.rollout.statistics.asymptotic import normal_mixture
from taoemb.rollout.statistics.bounded import BETS, LOG_WEIGHTS, MOST, log_capital, lowest_sum, mean_sequence
from taoemb.rollout.statistics.sequence import Sides, sides_of

# Written by `make confseq` with the package of the methods' authors.
REFERENCE = json.loads((Path(__file__).parent / "confseq.json").read_text(encoding="utf-8"))
LOOKS = np.array(REFERENCE["looks"])

values = st.lists(st.floats(0, 1), min_size=1, max_size=60).map(np.array)


@pytest.mark.parametrize("case", REFERENCE["normal_mixture"], ids=lambda case: f"{case['v_opt']}-{case['alpha']}")
def test_the_normal_mixture_is_that_of_confseq(case: dict) -> None:
    log = -2 * np.log(2 * case["alpha"])  # one-sided: tuned as the two-sided one at twice alpha (Howard et al. 2021)
    rho = case["v_opt"] / (log + np.log(1 + log))
    ours = normal_mixture(np.array(case["variance"]), case["alpha"], rho)
    np.testing.assert_allclose(ours, case["bound"], rtol=1e-9)


def test_the_capital_of_each_bet_is_that_of_confseq() -> None:
    for case in REFERENCE["capital"]:
        x = np.array(REFERENCE["data"][case["data"]])
        deviations = x - case["mean"]
        nearest = np.argmin(np.abs(BETS - case["bet"]))
        scaled = log_capital(deviations * case["bet"] / BETS[nearest], np.full(len(x), case["mean"]), LOOKS)
        np.testing.assert_allclose(np.exp(scaled[:, nearest]), case["capital"], rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("name", REFERENCE["data"])
def test_intervals_stand_beside_those_of_confseq(name: str) -> None:
    """Tighter than its empirical-Bernstein mixture; as tight as its hedged bets from some hundred values on."""
    x = np.array(REFERENCE["data"][name])
    ours = mean_sequence(x, alpha=REFERENCE["alpha"], at=LOOKS)
    theirs = {method: np.array(sides) for method, sides in REFERENCE["intervals"][name].items()}
    width = ours.high - ours.low
    mixture = theirs["empirical_bernstein_mixture"]
    assert np.all(width <= 1.02 * (mixture[1] - mixture[0]))
    hedged = theirs["hedged"]
    assert np.all((width <= 1.1 * (hedged[1] - hedged[0]))[LOOKS >= 400])
    for low, high in theirs.values():
        assert np.all((ours.low <= high) & (low <= ours.high))


@settings(deadline=None)
@given(values, st.floats(0.001, 0.3))
def test_the_lowest_sum_is_where_the_mixture_of_bets_reaches_its_limit(x: np.ndarray, alpha: float) -> None:
    """Against inversion by trying sums one by one."""
    deviations, worst = x - 0.5, np.full(len(x), 0.5)
    capital = log_capital(deviations, worst)[-1]
    found = lowest_sum(capital[None], alpha)[0]

    def wealth(s: float) -> float:
        alive = BETS * 0.5 <= MOST
        bets = [np.prod(1 + bet * deviations) * np.exp(-bet * s) for bet in BETS[alive]]
        return float(np.exp(LOG_WEIGHTS[alive]) @ bets)

    tolerance = 1e-4
    assert wealth(found - tolerance) >= 1 / alpha >= wealth(found + tolerance)


@settings(deadline=None)
@given(values, st.floats(0.01, 0.3))
def test_turning_values_round_turns_the_interval_round(x: np.ndarray, alpha: float) -> None:
    once, turned = mean_sequence(x, alpha=Sides(alpha, 0.05)), mean_sequence(1 - x, alpha=Sides(0.05, alpha))
    np.testing.assert_allclose(once.low, 1 - turned.high, atol=1e-7)
    np.testing.assert_allclose(once.center, 1 - turned.center, atol=1e-12)


@settings(deadline=None)
@given(values)
def test_bounds_only_scale(x: np.ndarray) -> None:
    once, scaled = mean_sequence(x, alpha=0.1), mean_sequence(2 * x - 1, alpha=0.1, bounds=(-1, 1))
    np.testing.assert_allclose(scaled.low, 2 * once.low - 1, atol=1e-9)
    np.testing.assert_allclose(scaled.high, 2 * once.high - 1, atol=1e-9)


@settings(deadline=None)
@given(values)
def test_the_center_is_the_mean_and_lies_inside(x: np.ndarray) -> None:
    found = mean_sequence(x, alpha=0.5)
    np.testing.assert_allclose(found.center, np.cumsum(x) / np.arange(1, len(x) + 1), atol=1e-9)
    assert np.all((found.low <= found.center) & (found.center <= found.high))
    assert np.all((found.low >= 0) & (found.high <= 1))


def test_looks_give_what_the_whole_sequence_gives_there() -> None:
    x = np.random.default_rng(0).random(40_000)  # more than one chunk
    looks = np.array([0, 1, 500, 32_768, 32_769, 40_000])
    whole, some = mean_sequence(x, alpha=0.05), mean_sequence(x, alpha=0.05, at=looks)
    np.testing.assert_allclose(some.low[1:], whole.low[looks[1:] - 1], atol=1e-9)
    assert (some.low[0], some.high[0]) == (-np.inf, np.inf)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(0.5, 0.5), (8.0, 1.0), (0.3, 6.0), (20.0, 20.0)]),
    st.floats(0, 0.3),
)
def test_the_average_mean_stays_inside_however_the_means_move(
    seed: int, shape: tuple[float, float], drift: float
) -> None:
    """Coverage at all of 600 looks together, in 120 sequences; fails falsely once in about 10^6 draws."""
    random = np.random.default_rng(seed)
    alpha, count, n = 0.1, 120, 600
    shift = drift * np.sin(np.arange(n) / 50) ** 2
    missed = 0
    for _ in range(count):
        x = (1 - shift) * random.beta(*shape, n) + shift
        truth = np.cumsum((1 - shift) * shape[0] / sum(shape) + shift) / np.arange(1, n + 1)
        found = mean_sequence(x, alpha=alpha, at=np.arange(10, n + 1, 10))
        truth = truth[9::10]
        missed += bool(np.any((found.low > truth) | (found.high < truth)))
    assert missed <= binom.ppf(1 - 1e-6, count, alpha)


def test_values_outside_the_bounds_are_refused() -> None:
    for wrong in ([0.5, 1.1], [np.nan], [-0.1]):
        with pytest.raises(ValueError, match="must lie within"):
            mean_sequence(np.array(wrong), alpha=0.05)


def test_levels_must_be_probabilities() -> None:
    assert sides_of(0.1) == Sides(0.05, 0.05)
    for wrong in (0.0, 2.0, -0.1, Sides(0.05, 0.0)):
        with pytest.raises(ValueError, match="alpha"):
            sides_of(wrong)
