"""A toy pipeline, compiled once, and the command line in this process or another."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taoemb.jobs.pipeline_compile import compile_pipelines
from taoemb.jobs.pipelines import Pipeline, read_pipeline

ROOT = Path(__file__).resolve().parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The toy pipeline's compiled file."""
    folder = tmp_path_factory.mktemp("toy") / "pipelines"
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "shop" / "toy.py", folder)
    compile_pipelines(folder)
    return read_pipeline(folder / "toy.yaml")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What the toy pipeline reads; its steps log their runs here."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "input.txt").write_text("ab")
    return folder


@pytest.fixture
def taoemb(tmp_path: Path) -> Command:
    """The real command line, run in an empty folder with an empty folder for temporary files beside it."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        place = tmp_path / "cwd"
        place.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "taoemb", "pipeline", *map(str, args)]
        env = {**os.environ, "TMPDIR": str(temporary)}
        return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, env=env)

    return run
