"""Compile pipeline sources to YAML: the one thing that runs everywhere, kept beside its source and checked by tests."""

import importlib.util
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from taoemb.errors import InputError
from taoemb.jobs.pipelines import BASE_IMAGE

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


@dataclass(frozen=True)
class Compiled:
    """One source and how its compiled file stood: made anew, the same as before, or (checking) different."""

    name: str
    file: Path
    state: Literal["written", "unchanged", "differs"]


def compile_pipelines(
    folder: Path, names: Sequence[str] = (), *, check: bool = False, image: str = BASE_IMAGE
) -> list[Compiled]:
    """Compile `folder`/NAME.py to `folder`/NAME.yaml for each name (default: all); `check` writes nothing.

    A source imports its components as `components.…` from the folder beside `folder`.
    """
    known = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
    if not known:
        raise InputError(f"{folder}: no pipeline sources here; run in a checkout of the project or pass --dir")
    for name in names:
        if name not in known:
            raise InputError(f"{name}: no such pipeline in {folder}; there are {', '.join(known)}")
    if not re.fullmatch(r"[\w.\-/:@]+", image):
        raise InputError(f"--image {image!r}: not an image reference")
    texts = {name: _compile(folder / f"{name}.py", image) for name in names or known}
    return [_store(name, folder / f"{name}.yaml", text, check) for name, text in texts.items()]


def _store(name: str, file: Path, text: str, check: bool) -> Compiled:
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return Compiled(name, file, "unchanged")
    if check:
        return Compiled(name, file, "differs")
    draft = file.with_suffix(".yaml.tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
    return Compiled(name, file, "written")


def _compile(source: Path, image: str) -> str:
    from kfp.compiler import Compiler

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "pipeline.yaml"
        Compiler().compile(load_pipeline(source), str(target))
        return with_image(target.read_text(encoding="utf-8"), image)


def with_image(text: str, image: str) -> str:
    """A compiled text whose steps run in `image`."""
    return text.replace(f"image: {BASE_IMAGE}\n", f"image: {image}\n")


def load_pipeline(source: Path) -> "GraphComponent":
    """The one @dsl.pipeline of a source file. Raises InputError."""
    from kfp.dsl.graph_component import GraphComponent

    found = [value for value in vars(_load(source)).values() if isinstance(value, GraphComponent)]
    if len(found) != 1:
        raise InputError(f"{source}: expected one @dsl.pipeline, found {len(found)}")
    return found[0]


def _load(source: Path) -> ModuleType:
    root = str(source.resolve().parent.parent)
    spec = importlib.util.spec_from_file_location(f"_pipeline_{source.stem}", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    sys.path.insert(0, root)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(root)
        for name in [name for name in sys.modules if name.partition(".")[0] == "components" and name not in before]:
            del sys.modules[name]  # another checkout has components of the same names
    return module
