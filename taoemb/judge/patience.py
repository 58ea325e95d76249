"""How long one request is tried again: the server's wish first, but never past the patience that the settings give."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from taoemb.judge.replies import Transient


@dataclass(frozen=True)
class RetryPolicy:
    """Pace of retries and of the circuit breaker; waits in seconds."""

    attempts: int = 5
    wait_initial: float = 0.2
    wait_max: float = 10.0
    wait_jitter: float = 0.5
    breaker_failures: int = 5
    breaker_cooldown: tuple[float, float] = (0.5, 10.0)  # first, longest


class Patience:
    """The patience with one request, from its first failure on. Belongs to the running event loop."""

    def __init__(self, wait_s: float, timeout_s: float, on_wait: Callable[[Transient, float], None]) -> None:
        """`wait_s`: for a judge that is away; a request that may itself be bad gets `timeout_s` at least.

        `on_wait` hears (failure, seconds) before a wait that the server asked for.
        """
        self._wait_s, self._timeout_s, self._on_wait = wait_s, timeout_s, on_wait
        self._clock = asyncio.get_running_loop().time
        self._since: float | None = None

    def left(self, failure: Transient) -> float:
        """Seconds left after this failure."""
        now = self._clock()
        self._since = now if self._since is None else self._since
        patience = self._wait_s if failure.away else max(self._wait_s, self._timeout_s)
        return patience - (now - self._since)

    def backoff(self, error: Exception) -> bool | float:
        """stamina's decision: no retry, exponential backoff with jitter (True), or the seconds until the next try."""
        if not isinstance(error, Transient):
            return False
        left = self.left(error)
        if left <= 0:
            return False
        if error.after_s is None:
            return True
        wait = min(error.after_s, left)
        self._on_wait(error, wait)
        return wait
