"""Each component's page names every input and output that the component has, and nothing else."""

import importlib
import re
from pathlib import Path

import pytest
from kfp import dsl

ROOT = Path(__file__).resolve().parents[2] / "components"
NAMES = sorted(folder.name for folder in ROOT.iterdir() if (folder / "component.py").is_file())


def load(name: str):
    """The component that the folder holds."""
    return getattr(importlib.import_module(f"components.{name}.component"), name)


def test_there_are_ten():
    assert [
        *("cleanup", "evaluate", "gate", "grpo", "prepare", "publish", "rollout", "sft", "train_judge", "validate")
    ] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_page_names_inputs_and_outputs(name):
    spec = load(name).component_spec
    page = (ROOT / name / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [word for row in rows for word in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted([*(spec.inputs or {}), *(spec.outputs or {})])


@pytest.mark.parametrize("name", NAMES)
def test_every_input_is_described(name):
    described = load(name).component_spec
    for key, entry in (described.inputs or {}).items():
        assert entry.description, key


def test_base_is_what_they_are_made_with():
    for name in NAMES:
        assert isinstance(load(name), dsl.base_component.BaseComponent)
        assert "components.base import component" in (ROOT / name / "component.py").read_text()
