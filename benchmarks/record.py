"""What a benchmark found, as one JSON file beside its script: tables, aims, and where and how they were measured.

Every script under benchmarks/ that feeds docs/results.md ends in `Record.finish`; `scripts/results_page.py` renders the
files. A number that users read therefore has a script, a date, a machine and a command.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Table:
    """One table of the page; cells are ready to be read."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: str = ""
    """What was compared and how, one or two sentences."""


@dataclass(frozen=True)
class Aim:
    """One line of the list of aims."""

    aim: str
    measured: str
    """With its spread, e.g. "1.62× [1.55, 1.71]"."""
    met: bool
    tried: str = ""
    """For an aim that was not met: why, and what was tried."""


def options(document: str | None) -> argparse.ArgumentParser:
    """A benchmark's command line, described by its module's `__doc__`: `--quick`, and what it adds."""
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short try that keeps nothing")
    return parser


class Record:
    """Collects what one script finds; the clock starts when it is made."""

    def __init__(self, script: str, title: str) -> None:
        """`script` is the path of the script (`__file__`)."""
        self.path = Path(script).resolve()
        self.title = title
        self.tables: list[Table] = []
        self.aims: list[Aim] = []
        self.notes: list[str] = []
        self._started = time.monotonic()

    @property
    def module(self) -> str:
        """How the script is run: `python -m` this."""
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)

    def finish(self, save: bool) -> None:
        """Show what was found and, unless this was only a try, keep it."""
        print(self)
        if save:
            print(self.save())

    def __str__(self) -> str:
        lines = []
        for table in self.tables:
            lines += ["", table.title, *([table.text] if table.text else [])]
            lines += [" | ".join(row) for row in (table.head, *table.rows)]
        lines += ["", *self.notes]
        lines += [f"{'met' if aim.met else 'NOT met'}: {aim.aim}: {aim.measured}" for aim in self.aims]
        return "\n".join(lines)

    def save(self) -> Path:
        """Write `results/<script>.json` beside the script; a run with options of its own does not call this."""
        found = {
            "title": self.title,
            "date": datetime.date.today().isoformat(),
            "command": " ".join(["python -m", self.module, *sys.argv[1:]]),
            "machine": machine(),
            "seconds": round(time.monotonic() - self._started),
            "tables": [asdict(table) for table in self.tables],
            "aims": [asdict(aim) for aim in self.aims],
            "notes": self.notes,
        }
        folder = self.path.parent / "results"
        folder.mkdir(exist_ok=True)
        file = folder / f"{self.path.stem}.json"
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return file


def machine() -> str:
    """Cores, processor and the versions that decide speed."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"{os.cpu_count()} cores, {device}, Python {platform.python_version()}, torch {torch.__version__}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    fast = [
        name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if any(f" {name}" in line for line in lines)
    ]
    return f"{named} ({fast[0]})" if fast else named


@dataclass(frozen=True)
class Ratio:
    """Median, least and greatest of ratios that were each taken side by side."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}× [{self.low:.2f}, {self.high:.2f}]"


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Ratio round by round of two things that were measured in turn, so that a machine's drift cancels."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def in_turn(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each contender measured in each round; the order turns from round to round."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            found[name].append(contenders[name]())
    return found
