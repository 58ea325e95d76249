"""What online measurement hands to the verdict, the report and the record: plain numbers, JSON both ways."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """The difference of the arms in one metric on one slice, with its confidence sequence at this look."""

    metric: str
    slice: str
    n_control: int
    """Units measured."""
    n_candidate: int
    control: float | None
    """Mean of the arm; None without units."""
    candidate: float | None
    effect: float | None
    """Candidate minus control, in the metric's own units."""
    low: float
    """Confidence sequence of the effect at level `1 - alpha`, two-sided; -inf and inf while nothing is known."""
    high: float
    alpha: float
    higher_is_better: bool = True


@dataclass(frozen=True)
class SampleRatio:
    """Sample-ratio-mismatch check over all assigned units."""

    n_control: int
    n_candidate: int
    expected_candidate: float
    """Expected number of units in the candidate, by their shares when they came."""
    p_value: float
    """Anytime-valid."""


@dataclass(frozen=True)
class Measurement:
    """One look at a rollout."""

    at: float
    """Unix seconds."""
    pages: int
    """Pages of the rollout that may be measured (not forced)."""
    graded: int
    unanswered: int
    """Sampled pages that the judge did not grade wholly."""
    estimates: Sequence[Estimate]
    sample_ratio: SampleRatio
    mismatches: int = 0
    """Pages whose encoder and collection belong to different releases; never anything but 0."""
    waiting: int = 0
    """Sampled pages that the judge did not come to yet."""
    waiting_for_people: int = 0
    """Pages that people were asked for and have not graded (only with the plan's `human`)."""
    answered_ratio: SampleRatio | None = None
    """The counts of the pages that the judge graded wholly, against one half; None where none is sampled."""
    one_look: tuple[float, float] | None = None
    """The interval of ppi-python for the plan's metric from human and judge's grades: right at one look only."""
    units_in_step: int | None = None
    """Units of the plan's metric whose page came at the present step's share; None: not counted apart, all count."""

    def find(self, metric: str, slice: str = "all") -> Estimate | None:
        """The estimate of a metric on a slice."""
        return next((one for one in self.estimates if (one.metric, one.slice) == (metric, slice)), None)


def to_json(measurement: Measurement) -> dict[str, Any]:
    """As a JSON object; infinite bounds become null."""
    tree = dataclasses.asdict(measurement)
    for estimate in tree["estimates"]:
        for bound in ("low", "high"):
            if abs(estimate[bound]) == float("inf"):
                estimate[bound] = None
    tree["estimates"] = list(tree["estimates"])
    return tree


def from_json(tree: Mapping[str, Any]) -> Measurement:
    """The value of :func:`to_json` read back."""
    estimates = [Estimate(**_with_bounds(one)) for one in tree["estimates"]]
    rest = {name: value for name, value in tree.items() if name not in ("estimates", "sample_ratio")}
    if rest.get("answered_ratio") is not None:
        rest["answered_ratio"] = SampleRatio(**rest["answered_ratio"])
    if rest.get("one_look") is not None:
        rest["one_look"] = tuple(rest["one_look"])
    return Measurement(estimates=estimates, sample_ratio=SampleRatio(**tree["sample_ratio"]), **rest)


def _with_bounds(tree: Mapping[str, Any]) -> dict[str, Any]:
    low, high = tree["low"], tree["high"]
    return dict(tree) | {
        "low": -float("inf") if low is None else low,
        "high": float("inf") if high is None else high,
    }
