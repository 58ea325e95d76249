"""The report for people: one HTML file that needs nothing else, in which all text is escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from taoemb.config import EvaluationConfig
from taoemb.evaluation import metrics, plots
from taoemb.evaluation.examples import pick
from taoemb.evaluation.measured import Measured
from taoemb.evaluation.slices import ALL, CATEGORY
from taoemb.pages import page_template

PLOTTED_METRICS, PLOTTED_CATEGORIES = 4, 8
TABLED_QUERIES = 5  # categories with fewer queries stand in evaluation.json only
COVERAGE_GAP = 0.05  # difference of judged shares from which a comparison needs a warning
_PAGE = page_template("taoemb.evaluation", "report.html.j2")


@dataclass(frozen=True)
class Row:
    """One line of a table: a cell a system (None: undefined), and its difference to the baseline if any."""

    name: str
    note: str
    cells: Mapping[str, Mapping[str, Any] | None]
    differences: Mapping[str, Mapping[str, Any] | None]
    queries: int


def render(evaluation: Mapping[str, Any], measured: Measured) -> str:
    """The page for the content of evaluation.json; `measured` gives the examples."""
    systems, subject, baseline = evaluation["systems"], evaluation["subject"], evaluation["baseline"]
    names = systems[subject]["metrics"]
    config = EvaluationConfig.model_validate(evaluation["config"]["evaluation"])
    focus = _focus(evaluation)
    gains, losses = pick(measured, focus, subject, baseline) if focus else ([], [])
    colours = {name: plots.COLOURS[at % len(plots.COLOURS)] for at, name in enumerate(systems)}
    sizes = evaluation["dataset"]["slices"]
    plotted = _plotted_slices(sizes)
    tabled = [name for name in sizes if name in plotted or sizes[name] >= TABLED_QUERIES]
    return _PAGE.render(
        evaluation=evaluation,
        subject=subject,
        baseline=baseline,
        systems=systems,
        colours=colours,
        number=plots.number,
        interval=plots.interval_text,
        verdict_of=verdict_of,
        summary=[_row(evaluation, metric, ALL, metrics.describe(metric, config)) for metric in names],
        panels=_panels(evaluation, focus, plotted, colours),
        not_plotted=len(sizes) - len(plotted),
        not_tabled=len(sizes) - len(tabled),
        details={m: [row for s in tabled if (row := _row(evaluation, m, s, "", slice_row=True))] for m in names},
        describe=lambda metric: metrics.describe(metric, config),
        focus=focus,
        gains=gains,
        losses=losses,
        coverage=[_row(evaluation, metric, ALL, "") for metric in names if not metrics.is_quality(metric)],
        warnings=_warnings(evaluation),
        grade_names={4: "Excellent", 3: "Related", 2: "Mismatch", 1: "Irrelevant", 0: "not judged"},
        confidence=f"{config.confidence * 100:g}",
        settings=yaml.safe_dump(evaluation["config"], sort_keys=False, allow_unicode=True),
    )


def verdict_of(cell: Mapping[str, Any]) -> str:
    """Class of a difference: "up" or "down" when its whole interval lies on one side of 0, else "even"."""
    return "up" if cell["low"] > 0 else "down" if cell["high"] < 0 else "even"


def _focus(evaluation: Mapping[str, Any]) -> str | None:
    """The metric that examples are picked by: the gate's, or the first that was computed."""
    names = evaluation["systems"][evaluation["subject"]]["metrics"]
    wanted = evaluation["config"]["gate"]["metric"]
    return wanted if wanted in names else next(iter(names), None)


def _row(evaluation: Mapping[str, Any], metric: str, slice_: str, note: str, slice_row: bool = False) -> Row:
    systems = evaluation["systems"]
    cells = {name: system["metrics"].get(metric, {}).get(slice_) for name, system in systems.items()}
    differences = {
        name: system.get("differences", {}).get(metric, {}).get(slice_) if metrics.is_quality(metric) else None
        for name, system in systems.items()
    }
    queries = max((cell["queries"] for cell in cells.values() if cell), default=0)
    return Row(slice_ if slice_row else metric, note, cells, differences, queries)


def _plotted_slices(sizes: Mapping[str, int]) -> list[str]:
    """All slices but the small categories, which would drown the others."""
    categories = sorted((name for name in sizes if name.startswith(CATEGORY)), key=lambda name: -sizes[name])
    dropped = set(categories[PLOTTED_CATEGORIES:])
    return [name for name in sizes if name not in dropped]


def _panels(
    evaluation: Mapping[str, Any], focus: str | None, slices: Sequence[str], colours: Mapping[str, str]
) -> list[tuple[str, plots.Forest]]:
    systems, baseline = evaluation["systems"], evaluation["baseline"]
    kind = "metrics" if baseline is None else "differences"
    drawn = {name: system[kind] for name, system in systems.items() if kind in system}
    computed = systems[evaluation["subject"]].get(kind, {})
    panels = []
    for metric in _headlines(list(computed), focus)[:PLOTTED_METRICS]:
        tables = {name: tables[metric] for name, tables in drawn.items() if metric in tables}
        present = [name for name in slices if any(name in table for table in tables.values())]
        panels.append((metric, plots.forest(tables, present, colours, signed=baseline is not None)))
    return panels


def _headlines(computed: Sequence[str], focus: str | None) -> list[str]:
    """The metrics worth a plot: the focus, then the first cut-off of each headline."""
    chosen = [focus] if focus in computed else []
    for headline in metrics.HEADLINES:
        first = next((metric for metric in computed if metric.partition("@")[0] == headline), None)
        taken = {metric.partition("@")[0] for metric in chosen if metric}
        if first is not None and headline not in taken:
            chosen.append(first)
    return [metric for metric in chosen if metric]


def _warnings(evaluation: Mapping[str, Any]) -> list[str]:
    systems, subject, baseline = evaluation["systems"], evaluation["subject"], evaluation["baseline"]
    found = []
    for metric, slices in systems[subject]["metrics"].items():
        if metrics.is_quality(metric) or baseline is None:
            continue
        ours, theirs = slices[ALL]["value"], systems[baseline]["metrics"][metric][ALL]["value"]
        if abs(ours - theirs) >= COVERAGE_GAP:
            found.append(
                f"{metric}: {ours:.0%} of {subject}'s results are judged, {theirs:.0%} of {baseline}'s. Metrics that "
                "count unjudged items as not good favour the better judged system: read the condensed and the "
                "judged-only ones."
            )
    judge = evaluation["judge"]
    if judge and judge["unanswered"]:
        left = f"{judge['unanswered']:,} of {judge['pairs']:,}"
        found.append(f"The judge left {left} pairs unanswered; they are left out.")
    return found
