"""Warnings that a run is going wrong, said once each in a clear line while there is still time to stop it.

They are also kept in the run's summary and in the release's manifest: who looks at a release later must see them too.
"""

import sys
from collections import deque
from collections.abc import Mapping
from typing import Any

from taoemb.config import EngineConfig

_HELDOUT, _REWARD = "heldout_relevance", "relevance"
_RECENT = 20  # steps of reward averaged at each check by the held-out judge
_FLAT_STEPS = 5  # steps in a row without a reward to learn from; by chance not even one is
_SAME = 1e-4  # relevance std within groups below which a judge tells no item from another


class Alarms:
    """Watches the records of a run; `check` returns the alarms that a record raises for the first time."""

    def __init__(self, config: EngineConfig) -> None:
        self._collapse = config.collapse_cosine
        self._raised: dict[str, str] = {}
        self._heldout: list[tuple[float, float]] = []  # (held-out judge's relevance, reward judge's relevance)
        self._relevance: deque[float] = deque(maxlen=_RECENT)
        self._flat_in_a_row, self._flat, self._graded = 0, 0, 0  # steps

    @property
    def raised(self) -> list[str]:
        """All alarms of the run, in the order in which they were raised."""
        return list(self._raised.values())

    def check(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """The new alarms of this record."""
        found = {
            "collapse": self._collapsed(metrics),
            "judges diverge": self._judges_diverge(metrics),
            "no signal": self._without_signal(metrics),
        }
        new = {name: f"step {step}: {text}" for name, text in found.items() if text and name not in self._raised}
        self._raised |= new
        return list(new.values())

    def at_the_end(self) -> list[str]:
        """What the whole run is to be told of: that no step of it had a reward to learn from."""
        if self._graded == 0 or self._flat < self._graded:
            return []
        self._raised["nothing learned"] = (
            f"end: in none of {self._graded} steps did the judge's grades make a difference within a group: KL and "
            "anchor alone trained this release; don't publish it"
        )
        return [self._raised["nothing learned"]]

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "raised": dict(self._raised),
            "heldout": list(self._heldout),
            "relevance": list(self._relevance),
            "flat": (self._flat_in_a_row, self._flat, self._graded),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self._raised, self._heldout = dict(state["raised"]), list(state["heldout"])
        self._relevance.extend(state["relevance"])
        self._flat_in_a_row, self._flat, self._graded = state["flat"]

    def _collapsed(self, metrics: Mapping[str, float]) -> str:
        for what in ("cosine_queries", "cosine_items"):
            cosine = metrics.get(what, 0.0)
            if cosine > self._collapse:
                return (
                    f"the embedding space is collapsing: {what} {cosine:.3f} > engine.collapse_cosine "
                    f"{self._collapse}; lower the learning rate, or raise grpo.kl or grpo.anchor"
                )
        return ""

    def _without_signal(self, metrics: Mapping[str, float]) -> str:
        if "zero_variance_share" not in metrics:
            return ""
        same_rewards = metrics["zero_variance_share"] >= 1
        same_grades = metrics.get("relevance_std", 0.0) < _SAME
        self._graded += 1
        self._flat += same_grades or same_rewards
        self._flat_in_a_row = self._flat_in_a_row + 1 if same_grades or same_rewards else 0
        if self._flat_in_a_row < _FLAT_STEPS:
            return ""
        what = "rewards" if same_rewards else "grades, only quality and exclusivity to tell its items apart,"
        return f"no group had different {what} for {_FLAT_STEPS} steps: {_why(metrics)}"

    def _judges_diverge(self, metrics: Mapping[str, float]) -> str:
        if _REWARD in metrics:
            self._relevance.append(metrics[_REWARD])
        if _HELDOUT not in metrics:
            return ""
        self._heldout.append((metrics[_HELDOUT], sum(self._relevance) / max(1, len(self._relevance))))
        if len(self._heldout) < 4:
            return ""
        (held_0, reward_0), (held_1, reward_1) = _halves(self._heldout)
        if reward_1 > reward_0 and held_1 < held_0:
            return (
                f"the reward rises ({reward_0:.3f} → {reward_1:.3f}) while the held-out judge falls "
                f"({held_0:.3f} → {held_1:.3f}): the policy is learning the reward judge's mistakes; stop here, "
                "or raise grpo.kl"
            )
        return ""


def _why(metrics: Mapping[str, float]) -> str:
    if "relevance_std" not in metrics:
        return "no group had two graded items; look at the judge's log, or raise grpo.k"
    if metrics["relevance_std"] < _SAME:
        given = f"the judge gives {metrics[_REWARD]:.3g} for everything that a query finds"
        return f"{given}; look at its answers (taoemb judge calibrate)"
    return "rewards differ by less than grpo.min_std; lower it"


def _halves(points: list[tuple[float, float]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Means of the first and of the second half of the points."""
    middle = len(points) // 2
    first, second = points[:middle], points[middle:]

    def mean(part: list[tuple[float, float]]) -> tuple[float, float]:
        return sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part)

    return mean(first), mean(second)


def sound(alarms: list[str]) -> None:
    """Print alarms to standard error."""
    for text in alarms:
        print(f"ALARM {text}", file=sys.stderr, flush=True)
