"""Run every benchmark of the list, one after another, and render docs/results.md from what they keep.

    python -m benchmarks.run                    all of them: `make bench`
    python -m benchmarks.run --only cost        one (its whole module name or the last part of it); may be repeated
    python -m benchmarks.run --list             what there is

A benchmark that fails does not stop the others; the exit code is 1 at the end when any did. One that says with exit
code 2 that it lacks its data (people's grades) is left out. They never run at the same time: each is the only load
that the machine has from us. A run of all starts without what earlier ones kept in .bench. The GPU benchmark has a
command of its own (`make bench-gpu`), and what would not fit into the hour is run by itself: `quality.ablations
--trained`, `speed.publish_million`.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
SPEED = ("training", "embedding", "serving", "gateway_overhead", "judge_client", "grpo_step", "publish")
QUALITY = ("compare", "ablations", "human", "item_texts", "transfer", "judge_latency", "cost")
"""Later ones start from what `compare` and `human` have trained."""
BENCHMARKS = (*(f"benchmarks.speed.{name}" for name in SPEED), *(f"benchmarks.quality.{name}" for name in QUALITY))
LACKS_DATA = 2
KEPT = ROOT / ".bench"
PAGE = ROOT / "scripts" / "results_page.py"


def run(commands: dict[str, Sequence[str]]) -> list[str]:
    """Run each command to its end and show its seconds; returns the names of those that failed."""
    failed = []
    for number, (name, command) in enumerate(commands.items(), 1):
        print(f"[{number}/{len(commands)}] {name}", flush=True)
        started = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        said = {0: "done", LACKS_DATA: "left out"}.get(code, f"failed with exit code {code}")
        print(f"[{number}/{len(commands)}] {name}: {said} in {time.monotonic() - started:.0f} s", flush=True)
        if code not in (0, LACKS_DATA):
            failed.append(name)
    return failed


def chosen(only: Sequence[str]) -> tuple[str, ...]:
    """The benchmarks of these names, in the list's order; all without names. Raises ValueError for an unknown one."""
    known = {name: module for module in BENCHMARKS for name in (module, module.rpartition(".")[2])}
    for name in only:
        if name not in known:
            raise ValueError(f"--only {name}: there is no such benchmark; --list shows all")
    wanted = {known[name] for name in only} or set(BENCHMARKS)
    return tuple(module for module in BENCHMARKS if module in wanted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 when any benchmark or the page failed, 2 for a name that is not in the list."""
    parser = argparse.ArgumentParser("python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="run this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="show the names and leave")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(BENCHMARKS))
        return 0
    try:
        modules = chosen(given.only)
    except ValueError as error:
        print(f"benchmarks.run: {error}", file=sys.stderr)
        return 2
    if not given.only:
        shutil.rmtree(KEPT, ignore_errors=True)
    commands: dict[str, Sequence[str]] = {module: (sys.executable, "-m", module) for module in modules}
    failed = run(commands | {"docs/results.md": (sys.executable, str(PAGE))})
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
