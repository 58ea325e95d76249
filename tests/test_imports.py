"""Imports point downwards: no module is in a circle, and no room looks up to one that stands above it."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the bottom up; rooms of one line know nothing of each other. What is no room is a module of the package itself.
ORDER = (
    ("errors", "limits", "pages", "__init__"),
    ("plain", "secret_file", "storage"),
    ("progress", "settings", "hosting"),
    ("config",),
    ("data",),
    ("encoder",),
    ("judge", "retrieval"),
    ("rewards",),
    ("training", "evaluation", "serving"),
    ("rollout",),  # measures with what evaluation has, and drives what serving reads
    ("jobs",),  # starts everything else
    ("cli",),
    ("__main__",),
)
HEIGHT = {room: height for height, rooms in enumerate(ORDER) for room in rooms}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package is its `__init__`."""
    found = {}
    for file in sorted((ROOT / "taoemb").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(file: Path) -> Iterator[str]:
    """Modules of the package that a file imports, those within functions too, those for type checkers not."""
    yield from _imported(ast.parse(file.read_text(encoding="utf-8")))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and _never_runs_on_import(node.test):
        for child in node.orelse:
            yield from _imported(child)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules())
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        for name in (f"{node.module}.{alias.name}" for alias in node.names):
            found = name if name in modules() else str(node.module)
            if found in modules():
                yield found
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def _never_runs_on_import(test: ast.expr) -> bool:
    """`if TYPE_CHECKING:` and `if __name__ == "__main__":`."""
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


@cache
def graph() -> dict[str, frozenset[str]]:
    return {name: frozenset(imported(file)) - {name} for name, file in modules().items()}


def test_no_module_is_in_a_circle():
    with_circle = dict(graph())
    try:
        TopologicalSorter(with_circle).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_every_room_has_a_place_in_the_order():
    assert {room(module) for module in modules()} == set(HEIGHT)


def test_no_room_looks_up():
    wrong = [
        f"{module} ({room(module)}) imports {other}"
        for module, others in graph().items()
        for other in sorted(others)
        if room(module) != room(other) and HEIGHT[room(module)] <= HEIGHT[room(other)]
    ]
    assert wrong == []


def test_the_package_knows_no_component():
    for folder in ("components", "pipelines", "benchmarks", "tests"):
        text = [name for name, file in modules().items() if f"from {folder}" in file.read_text(encoding="utf-8")]
        assert text == []


def test_circles_and_hidden_imports_are_seen(tmp_path):
    """The walk itself sees what it must: imports in functions, and none that only a type checker reads."""
    file = tmp_path / "module.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "from taoemb.data import dataset\n"
        "if TYPE_CHECKING:\n    from taoemb.cli import main\n"
        "else:\n    import taoemb.config\n"
        "def late():\n    from taoemb.encoder.model import Encoder\n"
        'if __name__ == "__main__":\n    from taoemb.training.entry import main\n'
    )
    assert set(imported(file)) == {"taoemb.data.dataset", "taoemb.config", "taoemb.encoder.model"}
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
