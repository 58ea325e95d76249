"""Tables of systems: means, and paired differences with their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.quality.measure import PerQuery, mean_over_seeds
from benchmarks.record import Table
from taoemb.evaluation.bootstrap import intervals


def against_first(title: str, systems: Mapping[str, Sequence[PerQuery]], metrics: Sequence[str]) -> Table:
    """Means over seeds; in brackets the difference to the first system with its 95 % paired BCa interval."""
    first, *_ = systems
    rows = []
    for name, runs in systems.items():
        cells = []
        for metric in metrics:
            mean = mean_over_seeds(runs, metric)
            gain = "" if name == first else f" ({_shown(mean - mean_over_seeds(systems[first], metric))})"
            cells.append(f"{np.nanmean(mean):.3f}{gain}")
        rows.append([name, *cells])
    return Table(title, ["system", *metrics], rows)


def differences(
    title: str, systems: Mapping[str, Sequence[PerQuery]], pairs: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> Table:
    """A row for each "one − other", query by query (each the mean of its seeds), with 95 % paired BCa intervals."""
    rows = []
    for one, other in pairs:
        means = [(mean_over_seeds(systems[one], m), mean_over_seeds(systems[other], m)) for m in metrics]
        rows.append([f"{one} − {other}", *(_shown(ours - theirs) for ours, theirs in means)])
    return Table(title, ["difference", *metrics], rows, "95 % paired BCa bootstrap over queries.")


def _shown(difference_Q: np.ndarray) -> str:
    found = intervals(difference_Q[:, None], resamples=5000, confidence=0.95, seed=0)[0]
    return "" if found is None else f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
