"""What the rollout commands show of a rollout, whether it runs on this machine or on a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taoemb.cli import common
from taoemb.cli.common import emit

EXIT_CODES = {"Promoted": 0, "RolledBack": 3, "Inconclusive": 4, "Failed": 1}


@dataclass(frozen=True)
class Shown:
    """A rollout as it is printed."""

    name: str
    phase: str
    result: dict[str, Any]
    """For programs."""
    rows: Sequence[tuple[Any, Any]]
    """For people."""

    def emit(self, as_json: bool) -> None:
        """Print it."""
        emit(self.result, as_json, title=f"Rollout {self.name}", table=(("", ""), self.rows))


def say(text: str) -> None:
    """A line about a change, at once."""
    common.say(text)


def keep_quiet(text: str) -> None:
    """For programs, which read the result only."""


def warn(text: str) -> None:
    """What did not work, and is tried again."""
    common.say(f"taoemb: {text}", err=True)
