"""Warnings that a run is going wrong, said once each in a clear line while there is still time to stop it."""

import sys
from collections import deque
from collections.abc import Mapping

from taoemb.config import EngineConfig

_HELDOUT, _REWARD = "heldout_relevance", "relevance"
_RECENT = 20  # steps of reward averaged at each check by the held-out judge


class Alarms:
    """Watches the records of a run; `check` returns the alarms that a record raises for the first time."""

    def __init__(self, config: EngineConfig) -> None:
        self._collapse = config.collapse_cosine
        self._raised: set[str] = set()
        self._heldout: list[tuple[float, float]] = []  # (held-out judge's relevance, reward judge's relevance)
        self._relevance: deque[float] = deque(maxlen=_RECENT)

    def check(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """The new alarms of this record."""
        found = {
            "collapse": self._collapsed(metrics),
            "judges diverge": self._judges_diverge(metrics),
        }
        new = {name: text for name, text in found.items() if text and name not in self._raised}
        self._raised |= set(new)
        return [f"step {step}: {text}" for text in new.values()]

    def _collapsed(self, metrics: Mapping[str, float]) -> str:
        for what in ("cosine_queries", "cosine_items"):
            cosine = metrics.get(what, 0.0)
            if cosine > self._collapse:
                return (
                    f"the embedding space is collapsing: {what} {cosine:.3f} > engine.collapse_cosine "
                    f"{self._collapse}; lower the learning rate, or raise grpo.kl or grpo.anchor"
                )
        return ""

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
