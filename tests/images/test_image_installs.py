"""Each image's locks install into a fresh environment as in its Dockerfile, and what the image runs starts there.

`make test` does the smallest image; `make test-images` all, several hundred MB from the package index.
"""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.image_locks import IMAGES, ROOT
from tests.images.imports import reached, third_party
from tests.images.parts import PARTS, Part

_HERE = (sys.version_info[:2], platform.system(), platform.machine())
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        _HERE != ((3, 11), "Linux", "x86_64"), reason="the locks are for Python 3.11 on Linux, x86-64: use that"
    ),
]
_ALL = [
    "judge",
    *(pytest.param(name, marks=pytest.mark.images) for name in ("serving", "trainer")),
]
_INSTALL_S = 500
_SCRIPT = re.compile(r"\.migrations\.|\.__main__$")  # run by Alembic and by Python, not imported
_IMPORT = "import importlib, json, sys\nfor name in json.loads(sys.argv[1]): importlib.import_module(name)"


def ran(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command that has run in `folder`, with a HOME that is written only there."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env |= {"HOME": str(folder), "DS_BUILD_OPS": "0", "DS_ACCELERATOR": "cpu"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=_INSTALL_S)


def run(*command: str, folder: Path) -> str:
    """Its output; it must succeed."""
    done = ran(*command, folder=folder)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", _ALL)
def test_the_locks_install_and_the_commands_start(name, tmp_path):
    python = str(tmp_path / "venv" / "bin" / "python")
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), folder=tmp_path)
    pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-compile", "--no-deps"]
    locked = [*pip, "--require-hashes", "--requirement"]
    _install_torch(locked, tmp_path)
    run(*locked, str(IMAGES / name / "requirements.txt"), "--only-binary", ":all:", folder=tmp_path)
    source = IMAGES / name / "source.txt"
    if source.is_file():
        run(*locked, str(source), "--no-build-isolation", folder=tmp_path)
    run(*pip, "--no-build-isolation", str(_copy(tmp_path)), folder=tmp_path)

    assert "No broken requirements found" in run(python, "-m", "pip", "check", folder=tmp_path)
    (installed,) = (tmp_path / "venv" / "lib").glob("python*/site-packages/taoemb")
    assert _files(installed) == _files(ROOT / "taoemb"), "pyproject.toml: packages.find and package-data"
    part = PARTS[name]
    run(python, "-c", _IMPORT, json.dumps(_modules(part)), folder=tmp_path)
    for command in part.commands:
        words = [str(tmp_path / "venv" / "bin" / "taoemb"), *command.split(), "--help"]
        assert "Usage: taoemb" in run(*words, folder=tmp_path)


def _install_torch(locked: list[str], folder: Path) -> None:
    """Its CPU build; skips where that can't be had."""
    where = ["--extra-index-url", "https://download.pytorch.org/whl/cpu", "--retries", "0"]
    done = ran(*locked, str(IMAGES / "torch" / "cpu.txt"), *where, folder=folder)
    if "No matching distribution found for torch" in done.stderr:
        pytest.skip("torch's CPU build can't be had here: let pip reach download.pytorch.org")
    assert done.returncode == 0, done.stderr[-4000:]


def _files(folder: Path) -> set[str]:
    """Whatever belongs to the package: modules and the data beside them."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in found}


def _modules(part: Part) -> list[str]:
    """What the image imports sooner or later: packages, and the project's own modules that need no package left out."""
    packages = third_party(part.entries)
    without = {module for package in part.left_out for module in packages.get(package, ())}
    own = {name for name in reached(part.entries) if name.startswith("taoemb.") and not _SCRIPT.search(name)}
    return sorted((packages.keys() - part.left_out) | (own - without))


def _copy(folder: Path) -> Path:
    """What the build context holds of the project: building in the checkout would leave files there."""
    target = folder / "src"
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "taoemb"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(target / name)], check=True)
    return target
