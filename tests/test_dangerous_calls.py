"""What would run somebody else's code is called nowhere: pickles, eval, YAML that builds objects, shells."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from taoemb.config import EncoderConfig
from taoemb.settings.yaml_text import _UniqueKeys

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    file
    for folder in ("taoemb", "components", "pipelines", "scripts", "helm", "images")
    for file in (ROOT / folder).rglob("*.py")
)
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "pandas.read_pickle",
}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader", "_UniqueKeys"}
ASKED_FOR = {("taoemb/encoder/loading.py", "trust_remote_code=")}
"""What a setting that is off by default lets in: encoder.trust_remote_code."""


def dotted(node: ast.expr) -> str:
    """a.b.c of a name or attribute."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of everything in a module that could run code that data brings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names if one.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Call):
            given = {one.arg: one.value for one in node.keywords}
            name = dotted(node.func)
            if name in CALLS and not (name == "yaml.load" and _is_safe(node, given)):
                yield node.lineno, name
            if name.endswith("torch.load") and not _is(given.get("weights_only"), True):
                yield node.lineno, "torch.load without weights_only=True"
            for flag in ("shell", "allow_pickle", "trust_remote_code"):
                if flag in given and not _is(given[flag], False):
                    yield node.lineno, f"{flag}="


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_safe(node: ast.Call, given: dict[str | None, ast.expr]) -> bool:
    loader = given.get("Loader", node.args[1] if len(node.args) > 1 else None)
    return loader is not None and dotted(loader).split(".")[-1] in SAFE_LOADERS


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "x = eval(text)",
        "yaml.load(text)",
        "yaml.load(text, yaml.UnsafeLoader)",
        "np.load(file, allow_pickle=True)",
        "subprocess.run(words, shell=True)",
        "AutoModel.from_pretrained(path, trust_remote_code=trusted)",
    ],
)
def test_dangerous_code_is_found(code: str) -> None:
    assert list(dangers(ast.parse(code)))


def test_there_is_none() -> None:
    assert len(FILES) > 300
    found = {
        (file.relative_to(ROOT).as_posix(), what): line
        for file in FILES
        for line, what in dangers(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert set(found) == ASKED_FOR, found
    assert issubclass(_UniqueKeys, yaml.SafeLoader)
    assert EncoderConfig().trust_remote_code is False
