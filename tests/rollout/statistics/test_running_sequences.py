"""Sequences kept as they grow: parts of any size add up to the same, and to what all rows at once give."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.rollout.statistics.adjust import earlier_in_group
from taoemb.rollout.statistics.bounded import mean_sequence
from taoemb.rollout.statistics.effect import effect_sequence
from taoemb.rollout.statistics.running import (
    EarlierInGroup,
    RunningAverage,
    RunningEffect,
    RunningMean,
    RunningRatio,
)
from taoemb.rollout.statistics.sample_ratio import sample_ratio_sequence
from taoemb.rollout.statistics.sequence import Sides

SIDES = Sides(0.05, 0.01)
N = 700


class Shop:
    """Units of two arms under growing shares, some without a value."""

    def __init__(self, seed: int, share: float) -> None:
        rng = np.random.default_rng(seed)
        self.p = np.repeat([0.05, 0.5], N // 2)
        self.a = rng.random(N) < self.p
        self.y = rng.integers(0, 11, N) / 10
        hidden = rng.random(N) < share
        self.least, self.most = np.where(hidden, 0.0, self.y), np.where(hidden, 1.0, self.y)
        self.groups = rng.integers(0, 40, N)
        self.history = np.where(rng.random(N) < 0.2, np.nan, rng.random(N))

    def running(self, cuts: Sequence[int]) -> list[object]:
        """What all sequences say after parts that end at the cuts."""
        earlier, effect = EarlierInGroup(), RunningEffect(SIDES, 2, (0.0, 1.0))
        earlier_ms, latency = EarlierInGroup(), RunningAverage(SIDES, 1)
        pairs, ratio = RunningMean(SIDES), RunningRatio()
        for start, end in zip([0, *cuts], [*cuts, N], strict=True):
            part = slice(start, end)
            a, p, groups = self.a[part], self.p[part], self.groups[part]
            least, most, ms = self.least[part], self.most[part], 40 * self.y[part]
            x = np.stack([earlier.add((least + most) / 2, groups), self.history[part]], axis=1)
            effect.add(least, most, a, p, x)
            latency.add(ms, a, p, earlier_ms.add(ms, groups)[:, None])
            pairs.add(2 * least - 1, 2 * most - 1)
            ratio.add(a, p)
        return [effect.interval(), latency.interval(), pairs.interval(), (ratio.p_value, ratio.expected)]

    def at_once(self) -> list[object]:
        at = np.array([N])
        middle = earlier_in_group((self.least + self.most) / 2, self.groups)
        x = np.stack([middle, self.history], axis=1)
        effect = effect_sequence(self.least, self.a, self.p, alpha=SIDES, x=x, at=at, most=self.most)
        ms, groups = 40 * self.y, self.groups
        x = earlier_in_group(ms, groups)[:, None]
        latency = effect_sequence(ms, self.a, self.p, alpha=SIDES, bounds=None, x=x, at=at)
        low, high = (mean_sequence(2 * ends - 1, alpha=SIDES, bounds=(-1, 1)).last for ends in (self.least, self.most))
        pairs = (np.mean(self.least + self.most) - 1, low[1], high[2])
        return [effect.last, latency.last, pairs, (sample_ratio_sequence(self.a, self.p)[-1], self.p.sum())]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.0, 0.1]),
    cuts=st.lists(st.integers(0, N), max_size=8).map(sorted),
)
def test_parts_add_up_to_the_same_to_the_last_bit(seed: int, share: float, cuts: list[int]) -> None:
    shop = Shop(seed, share)
    found, whole = shop.running(cuts), shop.running([])
    assert found == whole
    for one, expected in zip(found, shop.at_once(), strict=True):
        assert one == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_nothing_is_known_of_nothing() -> None:
    for one in (RunningEffect(SIDES, 1, (0.0, 1.0)), RunningAverage(SIDES, 1), RunningMean(SIDES)):
        assert one.interval() == (None, -np.inf, np.inf)
    assert RunningRatio().p_value == 1


def test_groups_that_share_a_number_only_share_a_mean() -> None:
    earlier = EarlierInGroup()
    assert np.isnan(earlier.add(np.array([0.5, 0.25]), np.array([3, 7]))).all()
    assert earlier.add(np.array([1.0, 0.0, 0.0]), np.array([3, 3, 7])).tolist() == [0.5, 0.75, 0.25]
