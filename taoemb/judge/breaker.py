"""A circuit breaker: a dead judge is probed now and then, not hammered, and given up after a set time."""

import asyncio
import random
from collections.abc import Callable
from enum import IntEnum

from taoemb.judge.failures import JudgeUnavailable


class State(IntEnum):
    """Of the breaker; the numbers are what Prometheus shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Opens after `threshold` consecutive failures; lets one probe through each cool-down; closes on a success.

    Belongs to one event loop. `on_state` hears every change.
    """

    def __init__(
        self,
        name: str,
        wait_s: float,
        *,
        threshold: int,
        cooldown_s: tuple[float, float],
        on_state: Callable[[State], None],
    ) -> None:
        self.name, self.wait_s = name, wait_s
        self.state = State.CLOSED
        self.successes = 0
        self._threshold, self._on_state = threshold, on_state
        self._first_cooldown, self._max_cooldown = cooldown_s
        self._cooldown = self._first_cooldown
        self._failures = 0
        self._failing: set[int] = set()
        self._down_since: float | None = None
        self._probe_at = 0.0
        self._not_before = 0.0
        self.reason = ""
        """What the last failure was, in words."""
        self._changed = asyncio.Event()

    async def admit(self) -> bool:
        """Wait until a request may go out. True when this request is the probe of an open breaker.

        Raises JudgeUnavailable once nothing has succeeded for `wait_s` since the first failure.
        """
        while self.state is not State.CLOSED:
            now = asyncio.get_running_loop().time()
            if self.state is State.OPEN and now >= self._probe_at:
                self._become(State.HALF_OPEN)
                return True
            self.give_up_when_away()
            until = self._deadline() if self.state is State.HALF_OPEN else min(self._probe_at, self._deadline())
            try:
                async with asyncio.timeout(max(until - now, 0.0)):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return False

    def success(self) -> None:
        """A request was answered."""
        self.successes += 1
        self._failures, self._down_since, self._cooldown = 0, None, self._first_cooldown
        self._failing.clear()
        self._not_before = 0.0
        if self.state is not State.CLOSED:
            self._become(State.CLOSED)

    def failure(self, who: int, reason: str, *, away: bool, after_s: float | None = None) -> None:
        """The request `who` failed; `away` when the failure can't be its own fault (no connection, 503).

        One request that fails alone does not open the breaker: it may be the request that is bad. No probe goes out
        before `after_s` seconds, which the server asked for.
        """
        now = asyncio.get_running_loop().time()
        self.reason = reason
        self._not_before = max(self._not_before, now + (after_s or 0.0))
        if self._down_since is None:
            self._down_since = now
        self._failures += 1
        self._failing.add(who)
        if self.state is State.HALF_OPEN:
            self._cooldown = min(self._cooldown * 2, self._max_cooldown)
            self._open()
        elif self.state is State.CLOSED and self._failures >= self._threshold and (away or len(self._failing) > 1):
            self._open()

    def release_probe(self) -> None:
        """The probe ended without telling anything (it was cancelled): let another one go."""
        if self.state is State.HALF_OPEN:
            self._open()

    def trip(self) -> None:
        """Open now: the judge is known to be away."""
        if self.state is State.CLOSED:
            self._open()

    def renew_patience(self) -> None:
        """A new call after giving up waits anew, and probes at once."""
        now = asyncio.get_running_loop().time()
        if self._down_since is not None and now >= self._deadline():
            self._down_since = self._probe_at = now
            self._not_before = 0.0

    def left(self) -> float:
        """Seconds for which the judge is still waited for."""
        return max(0.0, self._deadline() - asyncio.get_running_loop().time())

    def give_up_when_away(self) -> None:
        """Raise JudgeUnavailable once the judge has been away for `wait_s`."""
        now = asyncio.get_running_loop().time()
        if self._down_since is not None and now >= self._deadline():
            raise JudgeUnavailable(
                f"the judge at {self.name} has not answered for {now - self._down_since:.0f} s; its last failure: "
                f"{self.reason}; start it again and resume, or wait longer with judge.wait_s"
            )

    def _deadline(self) -> float:
        return float("inf") if self._down_since is None else self._down_since + self.wait_s

    def _open(self) -> None:
        soon = asyncio.get_running_loop().time() + self._cooldown * random.uniform(0.8, 1.2)
        self._probe_at = max(soon, self._not_before)
        self._become(State.OPEN)

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._on_state(state)
        self._changed.set()
        self._changed = asyncio.Event()
