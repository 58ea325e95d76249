"""Leaves alone what failed a moment ago: it rests, twice as long after each further failure."""

import time
from collections.abc import Callable
from dataclasses import dataclass

COOL_S = 0.25  # after a first failure; it doubles with each further one
MOST_COOL_S = 4.0
_MOST_KEPT = 1024  # things of long ago are forgotten


@dataclass
class _Health:
    failures: int = 0
    rests_until: float = 0.0


class Rests:
    """Who rests, by name (a URL, a digest). For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._health: dict[str, _Health] = {}

    def left_s(self, name: str) -> float:
        """Seconds that it still rests; 0 when it may be asked."""
        health = self._health.get(name)
        return 0.0 if health is None else max(0.0, health.rests_until - self._clock())

    def failed(self, name: str) -> bool:
        """Note a failure; whether it is a new one. Those that failed together are one failure."""
        if len(self._health) > _MOST_KEPT:
            self._health.clear()
        health, now = self._health.setdefault(name, _Health()), self._clock()
        if health.rests_until > now:
            return False
        health.rests_until = now + min(COOL_S * 2**health.failures, MOST_COOL_S)
        health.failures = min(health.failures + 1, 16)
        return True

    def worked(self, name: str) -> None:
        """It answers: forget its failures."""
        self._health.pop(name, None)
