"""What docs/kubernetes.md tells people to apply: its pod ends when it is told to, and its Python is one that works."""

import os
import re
import shutil
import signal
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def copy_pod() -> dict:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"apply -f - <<'END'\n(.*?)\nEND\n", page, re.DOTALL)
    return yaml.safe_load(text)


def test_the_copy_pod_ends_when_it_is_told_to():
    """The first process of a container has no default handlers: without one of its own it ignores SIGTERM."""
    (container,) = copy_pod()["spec"]["containers"]
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--pid", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("unshare --pid is needed (util-linux, and the right to make namespaces)")
    outer = subprocess.Popen([unshare, "--pid", "--fork", "--kill-child", *container["command"]])
    try:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        deadline = time.monotonic() + 20
        while not children.read_text().split():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (first,) = map(int, children.read_text().split())
        time.sleep(0.5)  # a shell takes a moment to set its trap
        os.kill(first, signal.SIGTERM)
        assert outer.wait(10) in (0, 128 + signal.SIGTERM)
    finally:
        outer.kill()
        outer.wait()


def test_the_python_that_is_asked_for_is_enough_for_every_pin():
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().split("\n")}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (floor,) = re.findall(r'^requires-python = ">=([\d.]+)"', project, re.MULTILINE)
    too_new = [
        f"{one.name} wants {one.metadata['Requires-Python']}"
        for one in distributions()
        if one.name.lower() in pinned
        and Version(floor) not in SpecifierSet(str(one.metadata.get("Requires-Python") or ""))
    ]
    assert too_new == []
    for file in ("README.md", "Makefile"):
        assert f"Python {floor} or newer" in (ROOT / file).read_text(encoding="utf-8")
