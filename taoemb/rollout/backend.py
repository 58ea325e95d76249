"""What a rollout asks of the place where encoders run; one implementation for processes, two for KServe.

Every method may be repeated: the controller can be stopped between any two calls and starts over from what it observes.
"""

from dataclasses import dataclass
from typing import Protocol

from taoemb.serving.traffic import Design


@dataclass(frozen=True)
class Candidate:
    """The release to roll out, and where encoders load it from."""

    release: str
    """Digest."""
    location: str
    """A folder (local) or a storageUri (KServe)."""


@dataclass(frozen=True)
class Observed:
    """What stands there now. Digests are read back from the encoders' own replies, never taken from a spec."""

    control: str | None
    """Digest that the control's encoders answer with; None while they don't, or don't agree."""
    candidate: str | None
    """The same for the candidate; None as well when there is none."""
    percent: float
    """The candidate's share as the gateway is told, 0 to 100."""
    message: str = ""
    """Why something is not ready, in words; for status and reports."""
    edited: str = ""
    """What somebody else changed so that the rollout can't go on, in words; empty when nobody did."""


class Backend(Protocol):
    """Moves one rollout. Raises TaoembError when the place does not answer, InputError when it can't work at all."""

    def observe(self) -> Observed:
        """Read the state; changes nothing."""

    def deploy(self, candidate: Candidate, rollout: str, salt: str, design: Design) -> None:
        """Start the candidate's encoders beside the control's with no traffic; returns without waiting."""

    def fit(self, percent: float) -> str:
        """Give the candidate the capacity that this share needs, by the control's present scale.

        Returns at once: what it still lacks, in words; empty when nothing. 100: what a promotion needs.
        """

    def shift(self, percent: float) -> None:
        """Give the candidate this share. Refuses (TaoembError) unless its digest was read back and is bound."""

    def promote(self) -> None:
        """The candidate becomes the control, without a restart; the old control's encoders go."""

    def rollback(self) -> None:
        """All traffic to the control, then the candidate's encoders go."""
