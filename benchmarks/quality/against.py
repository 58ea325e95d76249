"""Tables of systems: means, and paired differences with their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.quality.measure import PerQuery, mean_over_seeds
from benchmarks.record import Table
from taoemb.evaluation.bootstrap import Estimate, intervals


def against_first(title: str, systems: Mapping[str, Sequence[PerQuery]], metrics: Sequence[str]) -> Table:
    """Means over seeds; in brackets the difference to the first system with its 95 % paired BCa interval."""
    first, *_ = systems
    rows = []
    for name, runs in systems.items():
        cells = []
        for metric in metrics:
            gain = "" if name == first else f" ({shown(difference(runs, systems[first], metric))})"
            cells.append(f"{np.nanmean(mean_over_seeds(runs, metric)):.3f}{gain}")
        rows.append([name, *cells])
    return Table(title, ["system", *metrics], rows)


def differences(
    title: str, systems: Mapping[str, Sequence[PerQuery]], pairs: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> Table:
    """A row for each "one − other", query by query (each the mean of its seeds), with 95 % paired BCa intervals."""
    rows = []
    for one, other in pairs:
        cells = (shown(difference(systems[one], systems[other], metric)) for metric in metrics)
        rows.append([f"{one} − {other}", *cells])
    return Table(title, ["difference", *metrics], rows, "95 % paired BCa bootstrap over queries.")


def difference(ours: Sequence[PerQuery], theirs: Sequence[PerQuery], metric: str) -> Estimate | None:
    """ours − theirs with its 95 % paired BCa interval over queries; None where no query defines the metric."""
    difference_Q = mean_over_seeds(ours, metric) - mean_over_seeds(theirs, metric)
    return intervals(difference_Q[:, None], resamples=5000, confidence=0.95, seed=0)[0]


def shown(estimate: Estimate | None) -> str:
    """For a cell."""
    return "" if estimate is None else f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
