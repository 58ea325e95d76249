"""No module of the judge needs one that needs it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import taoemb.judge

ROOT = Path(taoemb.judge.__file__).parent


def _imports(file: Path) -> set[str]:
    """The judge's modules that `file` imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "taoemb.judge":
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("taoemb.judge."):
            names.add(node.module.removeprefix("taoemb.judge."))
    return names


def test_the_judge_has_no_import_circle() -> None:
    graph = {file.stem: _imports(file) for file in ROOT.glob("*.py")}
    assert graph["client"] >= {"cache", "failures"}
    assert set(TopologicalSorter(graph).static_order()) >= set(graph)  # raises CycleError on a circle
