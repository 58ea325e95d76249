"""What the simulations found, as Markdown."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

END = "<!-- results: end -->"


def markdown(found: Mapping[str, Any]) -> str:
    """The tables, with how they came about."""
    parts = [
        f"{found['date']}, {found['machine']}, {found['seconds']} s, `{found['command']}`.",
        "**Verdicts.** Rollouts that step 1 → 5 → 25 → 50 %, with guardrails, a look after every batch, and drift. "
        '"Median" counts the graded units of both arms until promotion, where it came to that.',
        _verdicts(found["lifts"]),
        "**Other checks.** Equal arms unless said otherwise; every simulation looks after every batch.",
        _others(found),
    ]
    return "\n\n".join(parts) + "\n"


def write_into(page: Path, text: str, script: str = "verdicts") -> None:
    """Replace what stands between the markers of a page that name this script."""
    begin = f"<!-- results: begin (written by benchmarks/rollout/{script}.py) -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{begin}\n\n{text}\n{END}{after}", encoding="utf-8")


def _verdicts(lifts: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{100 * one['lift']:+.0f} points" if one["lift"] else "0 (A/A)",
            f"{one['simulations']:,}",
            percent(one["promoted"]),
            _count(one["graded_until_promotion"]),
            percent(one["rolled_back"]),
            percent(one["crossed"]),
            percent(one["fixed"]),
            _count(one["fixed_units"]),
            percent(one["peeked"]),
            _count(one["peeked_units"]),
        ]
        for one in lifts
    ]
    head = [
        "true lift",
        "rollouts",
        "promoted",
        "median units",
        "rolled back",
        "interval alone above 0",
        "one z-test at its planned n",
        "planned n",
        "z-test at every look",
        "median units",
    ]
    return table(head, rows)


def _others(found: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{metric}: the 90 % interval ever above 0 / below 0 (5 % each allowed)",
            f"{percent(one['low'])} / {percent(one['high'])}",
        ]
        for metric, one in found["crossings"].items()
    ]
    cover, history, people, split = (found[name] for name in ("coverage", "history", "people", "split"))
    rows += [
        [
            "novelty effect under strong drift: the 95 % interval ever misses the average effect",
            percent(cover["missed"]),
        ],
        ["the same for a usual 95 % interval at every look", percent(cover["usual_missed"])],
        [
            "CUPED, true lift +2 points: median units until the interval is above 0, without / with history",
            f"{_count(history['without'])} / {_count(history['with'])}",
        ],
        ["CUPED: width of the interval, with / without history", f"{history['width_ratio']:.2f}"],
        ["judge that favours the candidate: falsely above 0, judge alone", percent(people["judge_false"])],
        ["the same, corrected by human grades on 20 % of the pages", percent(people["both_false"])],
        [
            "width of the interval (points): people alone / judge corrected by people",
            f"{100 * people['people_width']:.1f} / {100 * people['both_width']:.1f}",
        ],
        ["sample ratio: false alarms at 0.1 %, shares stepping", percent(split["works"]["alarm"])],
        [
            "sample ratio: found when 15 % of the candidate's units are lost; median units",
            f"{percent(split['loses']['alarm'])}; {_count(split['loses']['at'])}",
        ],
    ]
    return table(["check", "found"], rows)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{100 * share:.1f} %"


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"
