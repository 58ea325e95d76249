"""Where the time of a step goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up seconds by part; parts must not nest."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time a block as `part`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] = self._seconds.get(part, 0.0) + time.perf_counter() - begun

    def seconds(self) -> dict[str, float]:
        """Seconds of each part, named time/<part>."""
        return {f"time/{part}": seconds for part, seconds in self._seconds.items()}

    def total(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self._started
