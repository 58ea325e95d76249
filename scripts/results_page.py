"""Write docs/results.md from a finished local run of pipelines/grpo.yaml: `python scripts/results_page.py OUT COMMAND`.

Nothing is typed by hand: the numbers come from the run's evaluation.json, the times from its run.json.
"""

import json
import os
import platform
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
SLICES = ("all", "human", "generated")
METRICS = ("goodrate@10", "ndcg_condensed@10", "recall@100", "pair_accuracy", "judge_goodrate@10")


def interval(cell: dict, signed: bool = False) -> str:
    """A value with its interval."""
    form = "{:+.3f} [{:+.3f}, {:+.3f}]" if signed else "{:.3f} [{:.3f}, {:.3f}]"
    return form.format(cell["value"], cell["low"], cell["high"])


def rows(evaluation: dict, name: str, part: str) -> list[str]:
    """One slice of one metric: each system, then the difference to the baseline."""
    cells = [system["metrics"].get(name, {}).get(part) for system in evaluation["systems"].values()]
    if any(cell is None for cell in cells):
        return []
    difference = (evaluation["differences"] or {}).get(name, {}).get(part)
    told = interval(difference, signed=True) if difference else ""
    shown = " | ".join(interval(cell) for cell in cells)
    return [f"| {name} | {part} ({cells[0]['queries']}) | {shown} | {told} |"]


def page(out: Path, command: str) -> str:
    """The page's text."""
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    found = max(out.glob("steps/*/evaluate/evaluation/evaluation.json"), key=os.path.getmtime)
    evaluation = json.loads(found.read_text(encoding="utf-8"))
    systems = list(evaluation["systems"])
    lines = [
        "# Results",
        "",
        f"Written by `python scripts/results_page.py` on {run['ended'][:10]}, from a run on {os.cpu_count()} CPU cores",
        f"({platform.machine()}, Python {platform.python_version()}):",
        "",
        "```console",
        f"$ {command}",
        "```",
        "",
        f"State: {run['state']}. Intervals are 95 % BCa bootstrap over queries; the last column is paired,",
        f"{evaluation['subject']} − {evaluation['baseline']}. `start` is the SFT release that GRPO started from.",
        "`human` queries and grades are people's; `generated` ones are graded by rule, from the templates of training.",
        "",
        f"| metric | slice (queries) | {' | '.join(systems)} | difference |",
        f"|---|---|{'---|' * (len(systems) + 1)}",
    ]
    for name in METRICS:
        for part in SLICES:
            lines += rows(evaluation, name, part)
    lines += ["", "| step | state | seconds |", "|---|---|---|"]
    lines += [f"| {step['title']} | {step['state']} | {step['seconds']:,.0f} |" for step in run["steps"]]
    total = sum(step["seconds"] for step in run["steps"])
    lines += [f"| all | | {total:,.0f} |", ""]
    if evaluation.get("gate"):
        verdict = "passed" if evaluation["gate"]["passed"] else "refused"
        lines += [f"Gate: {verdict}. " + " ".join(evaluation["gate"]["reasons"]), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(Path(sys.argv[1]), sys.argv[2]), encoding="utf-8")
