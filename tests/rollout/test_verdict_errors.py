"""A small part of benchmarks/rollout/verdicts.py: simulated rollouts through the real `decide`, held to its levels."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from scipy.stats import binom

FOLDER = Path(__file__).parents[2] / "benchmarks" / "rollout"


@pytest.fixture(scope="module")
def rollouts() -> Iterator[ModuleType]:
    """The benchmark's simulations; it is a script, so its folder is put on the path as Python does for scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import rollouts

        yield rollouts
    for name in ("rollouts", "shop_traffic", "classical"):
        sys.modules.pop(name, None)


def test_equal_arms_are_promoted_no_more_often_than_alpha_allows(rollouts: ModuleType) -> None:
    """With a look after every batch; fails falsely once in 10^6 runs. Peeking at z-tests fails the same bound."""
    count, alpha = 200, rollouts.PLAN.alpha
    found = [rollouts.decided([1, number], lift=0.0, looks=12, planned=3000) for number in range(count)]
    most = binom.ppf(1 - 1e-6, count, alpha)
    assert sum(one["promoted"] for one in found) <= most
    assert sum(one["rolled_back"] for one in found) <= binom.ppf(1 - 1e-6, count, rollouts.PLAN.harm_alpha)
    assert sum(one["peeked"] for one in found) > most


def test_a_candidate_that_is_truly_better_or_worse_is_told_apart(rollouts: ModuleType) -> None:
    better = [rollouts.decided([2, number], lift=0.05, looks=24, planned=1000) for number in range(20)]
    worse = [rollouts.decided([3, number], lift=-0.08, looks=24, planned=1000) for number in range(20)]
    assert sum(one["promoted"] for one in better) >= 18
    assert sum(one["rolled_back"] for one in better) <= 2
    assert sum(one["rolled_back"] for one in worse) >= 18
    assert not any(one["promoted"] for one in worse)


def test_a_simulation_is_a_function_of_its_seed(rollouts: ModuleType) -> None:
    first, again = (rollouts.decided([4], lift=0.02, looks=8, planned=1000) for _ in range(2))
    assert first == again
