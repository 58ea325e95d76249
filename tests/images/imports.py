"""Which packages a part of taoemb may import, read from its source: at the top of modules and inside functions."""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_OWN = ("taoemb", "components")
ROOT = Path(__file__).resolve().parents[2]


def third_party(entries: Iterable[str]) -> dict[str, set[str]]:
    """Top-level modules of others, each with the modules of taoemb that import it, as far as `entries` reach."""
    found: dict[str, set[str]] = {}
    for module, imported in reached(entries).items():
        for top in {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - set(_OWN):
            found.setdefault(top, set()).add(module)
    return found


def reached(entries: Iterable[str]) -> dict[str, list[str]]:
    """Modules of the project that `entries` reach, each with what it imports."""
    found: dict[str, list[str]] = {}
    waiting = list(entries)
    while waiting:
        module = waiting.pop()
        file = _file(module)
        if module in found or file is None:
            continue
        found[module] = list(_imported(file))
        waiting += [name for name in found[module] if name.partition(".")[0] in _OWN]
    return found


def _file(module: str) -> Path | None:
    """The source of a module or package; None when the name is something inside a module."""
    path = ROOT.joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
