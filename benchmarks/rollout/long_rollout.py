"""What a look costs late in a rollout: time and memory by the number of units before it.

    python benchmarks/rollout/long_rollout.py --units 1000000

Pages, grades and clicks come from a generator in the place of the database, a look every 10,000 units. Prints a line
each time the number of units has doubled, and at the end; seconds are those of the processor.
"""

import argparse
import resource
import time
from collections.abc import Iterator, Sequence

from taoemb.rollout.measurement.looking import FORGET_FROM, NOTHING
from taoemb.rollout.measurement.measurer import Measurer
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.slicing import Slicer
from taoemb.rollout.plan import Plan, SliceRule
from taoemb.serving.assignment import place
from taoemb.serving.events.rows import Closing, Grade, Outcome, Page, PageCounts, PageKind

A_LOOK = 10_000
RELEASES = {"control": "c0" * 32, "candidate": "ca" * 32}
PLAN = Plan(slices=(SliceRule(name="negation", pattern="without"), SliceRule(name="question", pattern=r"\?")))


class Traffic:
    """What the reading side of the events database says, made up page by page."""

    def __init__(self) -> None:
        self.until, self._closed = 0, 0

    def unit_pages(self, rollout: str, after: int = 0) -> Iterator[Page]:
        """The pages that came since."""
        for number in range(after + 1, self.until + 1):
            arm = "candidate" if place("salt", f"u{number}") < 50 else "control"
            query = f"query {number * 7919 % 100_000}{' without' if number % 10 == 0 else ''}"
            times = (20.0 + number % 30, 5.0, 4.0, float(number))
            release = RELEASES[arm]
            ids = (f"r{number}", float(number), rollout, f"u{number}", arm, arm, False, 50.0, query, 10, "")
            yield Page(number, *ids, release, "shop", "ok", *times)

    def count_pages(self, rollout: str, after: int = 0) -> PageCounts:
        """New pages by kind."""
        kind = PageKind("control", "control", False, "ok", RELEASES["control"], "shop")
        return PageCounts({kind: self.until - after}, self.until)

    def grades(self, rollout: str, source: str | None = None, after: int = 0) -> list[Grade]:
        """Grades of all new pages; a few are left open."""
        return [
            Grade(
                f"r{number}",
                "judge",
                [None if number % 997 == 0 else (number * 31 + at) % 11 / 10 for at in range(10)],
                0.0,
            )
            for number in range(after + 1, self.until + 1)
        ]

    def close_pages(self, rollout: str, pages_to: int, after: int = 0) -> list[Closing]:
        """One closing for all new pages."""
        before, self._closed = self._closed, max(self._closed, pages_to)
        return [Closing(before, self._closed, 0)] if self._closed > before else []

    def closed_outcomes(
        self, rollout: str, types: Sequence[str], window_s: float, after: int, until: int
    ) -> Iterator[Outcome]:
        """A click on every third page."""
        return (
            Outcome(number, f"r{number}", "click", 0.0, 1) for number in range(after + 1, until + 1) if number % 3 == 0
        )


def main() -> None:
    """Run to the last unit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1_000_000)
    units = parser.parse_args().units
    traffic, seen, measurer = Traffic(), Observations("long", "salt", PLAN), Measurer(PLAN, Slicer(PLAN))
    shown = A_LOOK
    print("| units before | seconds of a look at 10,000 more | rows kept | memory, MB |\n| --- | --- | --- | --- |")
    for before in range(0, units + 1, A_LOOK):
        traffic.until += A_LOOK
        started = time.process_time()
        seen.read(traffic, traffic.until + 1000.0)  # type: ignore[arg-type]
        measurer.take(seen, NOTHING)
        found = measurer.measurement(seen, RELEASES, 0.0, 3)
        if measurer.done >= FORGET_FROM:
            rows = measurer.done
            seen.forget(rows)
            measurer.forgot(rows)
        seconds = time.process_time() - started
        if before >= shown or before + A_LOOK > units:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"| {before:,} | {seconds:.2f} | {len(seen):,} | {memory:.0f} |", flush=True)
            shown *= 2
    assert found.graded + found.unanswered > 0


if __name__ == "__main__":
    main()
