"""The checked-in YAML files: what their sources compile to, documented, and fit for a cluster."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from taoemb.config import load_config
from taoemb.jobs.pipelines import BASE_IMAGE, Parameter, compile_pipelines, read_pipeline, read_spec
from taoemb.jobs.steps import STAGES

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("grpo", "rollout", "sft")
NEEDED = {"grpo": ["data"], "rollout": ["release", "rollout_target"], "sft": ["data"]}


def test_each_file_is_what_its_source_compiles_to():
    states = {entry.name: entry.state for entry in compile_pipelines(ROOT / "pipelines", check=True)}
    assert states == dict.fromkeys(NAMES, "unchanged"), "run `taoemb pipeline compile`"


def test_check_passes_on_the_command_line(taoemb):
    done = taoemb("compile", "--check", "--dir", ROOT / "pipelines")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_documented_and_few_are_needed(name):
    pipeline = read_pipeline(ROOT / "pipelines" / f"{name}.yaml")
    assert [entry.name for entry in pipeline.parameters.values() if entry.required] == NEEDED[name]
    assert all(entry.description for entry in pipeline.parameters.values())
    page = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    for entry in pipeline.parameters.values():
        default = "needed" if entry.required else f"`{entry.default!r}`".replace("'", '"')
        alike = [one for one in NAMES if _same(entry, read_pipeline(ROOT / "pipelines" / f"{one}.yaml").parameters)]
        assert f"| `{entry.name}` | {entry.kind} | {default} | {', '.join(alike)} |" in page, entry.name


def _same(entry: Parameter, parameters: Mapping[str, Parameter]) -> bool:
    """Whether a pipeline has this parameter with the same default."""
    other = parameters.get(entry.name)
    return other is not None and (other.kind, other.default) == (entry.kind, entry.default)


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_what_a_run_hands_out(name):
    pipeline = read_pipeline(ROOT / "pipelines" / f"{name}.yaml")
    assert {output.file for output in pipeline.outputs} == {"release", "report.html", "metrics.json"}


def test_the_rollout_comes_last_and_only_when_asked_for():
    (spec,) = read_spec(ROOT / "pipelines" / "grpo.yaml")
    (condition,) = [task for task in spec["root"]["dag"]["tasks"].values() if "triggerPolicy" in task]
    assert condition["triggerPolicy"]["condition"].endswith("rollout'] != ''")
    assert "publish" in condition["dependentTasks"]
    inner = spec["components"][condition["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inner) == {"rollout"}
    assert not inner["rollout"]["cachingOptions"].get("enableCache")
    assert "retryPolicy" in inner["rollout"]


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_what_a_cluster_reads(name):
    (spec,) = read_spec(ROOT / "pipelines" / f"{name}.yaml")
    tasks = spec["root"]["dag"]["tasks"]
    assert {entry["container"]["image"] for entry in spec["deploymentSpec"]["executors"].values()} == {BASE_IMAGE}
    assert "cacheKey" not in yaml.safe_dump(spec)
    tasks = {name: task for name, task in tasks.items() if "triggerPolicy" not in task}
    uncached = {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")}
    assert uncached == {"validate", "gate", "publish"}
    assert {name for name, task in tasks.items() if "retryPolicy" not in task} == {"validate", "gate"}
    assert "gate" in tasks["publish"]["dependentTasks"]


def test_every_section_that_is_a_step_s_own_is_given_to_it():
    sections = set(load_config().model_dump())
    given = {section for part in STAGES.values() for section in part}
    assert given <= sections
    assert sections - given == {
        "hard_negatives",
        "live_infonce",
        "kserve",
        "controller",
    }  # baselines, and the controller's own
