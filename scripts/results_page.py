"""Write docs/results.md from what the benchmarks found: `python scripts/results_page.py`; `--check` tells a stale page.

Nothing is typed by hand: every number comes from a results/*.json under benchmarks/, which its script wrote
(`make bench` runs them all).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
ORDER = (
    "quality/compare",
    "quality/ablations",
    "quality/human",
    "quality/item_texts",
    "quality/transfer",
    "quality/cost",
    "quality/judge_latency",
    "speed/training",
    "speed/grpo_step",
    "speed/embedding",
    "speed/publish",
    "speed/publish_million",
    "speed/serving",
    "speed/gateway_overhead",
    "speed/judge_client",
    "speed/gpu",
)
BY_THEMSELVES = ("speed/publish_million", "speed/gpu")
"""What `make bench` does not run."""
HEAD = """# Results

Written by `python scripts/results_page.py` from the JSON files under `benchmarks/*/results/`. `make bench` makes them
on two CPU cores{seconds}, those of a million items and of a GPU excepted; each section names its script, date and
machine. Ratios were taken side by side in one run: median [least, greatest]. Negative results stay. How often verdicts
of rollouts err has a page of its own, [verdicts.md](verdicts.md).
"""
NOT_MEASURED = {
    "speed/gpu": (
        ("At least 40 % MFU in training on a GPU", "`make bench-gpu`"),
        ("At least 55 % MFU in bulk encoding on a GPU", "`make bench-gpu`"),
    )
}
"""Aims of scripts that need a machine which was not at hand: (aim, command)."""


def read() -> dict[str, dict[str, Any]]:
    """Results by "room/script", in the page's order; others come last."""
    files = {f"{f.parent.parent.name}/{f.stem}": f for f in ROOT.glob("benchmarks/*/results/*.json")}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    ours = {name: content for name, content in found.items() if "tables" in content}
    known = [name for name in ORDER if name in ours]
    return {name: ours[name] for name in [*known, *sorted(set(ours) - set(known))]}


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The page's text."""
    total = sum(content["seconds"] for name, content in found.items() if name not in BY_THEMSELVES)
    parts = [HEAD.format(seconds=f" in {round(total / 60)} minutes" if found else "")]
    parts += ["## Aims\n", _aims(found)]
    for content in found.values():
        parts += [f"## {content['title']}\n", f"`{content['command']}`, {content['date']}, {content['seconds']:,} s."]
        parts[-1] += f" {content['machine']}.\n"
        parts += [f"{note}\n" for note in content["notes"]]
        parts += [_table(table) for table in content["tables"]]
    return "\n".join(parts)


def _aims(found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, content in found.items():
        script = f"[{name}](../benchmarks/{name}.py)"
        for aim in content["aims"]:
            measured = aim["measured"] + (f". {aim['tried']}" if aim["tried"] else "")
            rows.append([aim["aim"], measured, "met" if aim["met"] else "**not met**", script])
    for name, missing in NOT_MEASURED.items():
        if name not in found:
            script = f"[{name}](../benchmarks/{name}.py)"
            rows += [
                [aim, f"no such machine was at hand: {command}", "not measured", script] for aim, command in missing
            ]
    return _rows(["aim", "measured, and what was tried", "", "script"], rows)


def _table(table: Mapping[str, Any]) -> str:
    text = f"{table['text']}\n\n" if table["text"] else ""
    return f"### {table['title']}\n\n{text}{_rows(table['head'], table['rows'])}"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    text = page(read())
    if "--check" in sys.argv:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            sys.exit(f"{PAGE} is stale: run python scripts/results_page.py")
    else:
        PAGE.write_text(text, encoding="utf-8")
