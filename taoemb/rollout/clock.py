"""The time by which a rollout ages: the database's, carried on by a monotonic clock between two asks.

The clocks of machines are minutes apart, and somebody sets them; the time-out of a start must not end a rollout for
that. What all controllers share is the events database, and what no one can set is the monotonic clock.
"""

import threading
import time
from collections.abc import Callable

from taoemb.errors import TaoembError

ASK_S = 30.0


class Clock:
    """Unix seconds that never jump between two asks; for any thread."""

    def __init__(self, ask: Callable[[], float] = time.time) -> None:
        """`ask` gives the time that counts, e.g. :meth:`EventStore.now`; it may raise TaoembError."""
        self._ask, self._lock = ask, threading.Lock()
        self._ahead: float | None = None  # of the monotonic clock
        self._next = float("-inf")

    def refresh(self) -> None:
        """Ask again, at most every `ASK_S`; who does not answer is asked later, and the last answer counts on."""
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + ASK_S
        try:
            told = self._ask()
        except TaoembError:
            return  # whoever needs the database says so
        self._ahead = told - time.monotonic()

    def now(self) -> float:
        """Returns at once. Until the first answer it is this machine's time."""
        if self._ahead is None:
            return time.time()
        return time.monotonic() + self._ahead
