"""The seesaw of the paper's section 4 as a picture: what quality and exclusivity cost in relevance (a Pareto plot)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.measure import PerQuery

MARKS = "osD^vP*Xp"


def draw(systems: Mapping[str, Sequence[PerQuery]], file: Path) -> None:
    """Goodrate@10 against quality@10 and against what BM25 does not bring; joins the front. At most nine systems."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "taoemb"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    relevance = [_mean(runs, "goodrate@10") for runs in systems.values()]
    panels = {
        "quality@10": [_mean(runs, "quality@10") for runs in systems.values()],
        "outside BM25's top 100": [1 - _mean(runs, "bm25_overlap@10") for runs in systems.values()],
    }
    for axis, (label, values) in zip(axes, panels.items(), strict=True):
        for name, mark, x, y in zip(systems, MARKS, relevance, values, strict=False):
            axis.scatter(x, y, s=60, marker=mark, zorder=3, label=name.partition(":")[0])
        front = _front(relevance, values)
        axis.plot([relevance[i] for i in front], [values[i] for i in front], color="#bbbbbb", zorder=1)
        axis.set_xlabel("Goodrate@10")
        axis.set_ylabel(label)
        axis.margins(0.15)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _mean(runs: Sequence[PerQuery], metric: str) -> float:
    return float(np.mean([run[metric].mean() for run in runs]))


def _front(x: Sequence[float], y: Sequence[float]) -> list[int]:
    """Points that no other one beats in both, by x."""
    points = list(zip(x, y, strict=True))
    return sorted(
        (i for i, (a, b) in enumerate(points) if not any((c >= a and d > b) or (c > a and d >= b) for c, d in points)),
        key=lambda i: x[i],
    )
