"""Each image's locks install into a fresh environment as in its Dockerfile, and what the image runs starts there.

`make test` does the smallest image; `make test-images` all, several hundred MB from the package index.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.image_locks import IMAGES, ROOT
from tests.images.imports import third_party
from tests.images.parts import PARTS

pytestmark = pytest.mark.slow
_ALL = [
    "judge",
    *(pytest.param(name, marks=pytest.mark.images) for name in ("serving", "trainer")),
]
_INSTALL_S = 500
_IMPORT = "import importlib, json, sys\nfor name in json.loads(sys.argv[1]): importlib.import_module(name)"


def run(*command: str, folder: Path) -> str:
    """A command's output, in `folder` and with a HOME that can be written only there."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env |= {"HOME": str(folder), "DS_BUILD_OPS": "0", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=_INSTALL_S)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", _ALL)
def test_the_locks_install_and_the_commands_start(name, tmp_path):
    python = str(tmp_path / "venv" / "bin" / "python")
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), folder=tmp_path)
    pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-deps"]
    locked = [*pip, "--require-hashes", "--requirement"]
    run(*locked, str(IMAGES / "torch" / "cpu.txt"), folder=tmp_path)
    run(*locked, str(IMAGES / name / "requirements.txt"), "--only-binary", ":all:", folder=tmp_path)
    source = IMAGES / name / "source.txt"
    if source.is_file():
        run(*locked, str(source), "--no-build-isolation", folder=tmp_path)
    run(*pip, "--no-build-isolation", str(_copy(tmp_path)), folder=tmp_path)

    assert "No broken requirements found" in run(python, "-m", "pip", "check", folder=tmp_path)
    part = PARTS[name]
    modules = sorted(third_party(part.entries).keys() - part.left_out)
    run(python, "-c", _IMPORT, json.dumps([*modules, *_own(part.entries)]), folder=tmp_path)
    for command in part.commands:
        words = [str(tmp_path / "venv" / "bin" / "taoemb"), *command.split(), "--help"]
        assert "Usage: taoemb" in run(*words, folder=tmp_path)


def _own(entries: tuple[str, ...]) -> list[str]:
    return [name for name in entries if name.startswith("taoemb.cli.")]


def _copy(folder: Path) -> Path:
    """What the build context holds of the project: building in the checkout would leave files there."""
    target = folder / "src"
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "taoemb"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(target / name)], check=True)
    return target
