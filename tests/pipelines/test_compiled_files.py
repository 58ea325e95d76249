"""The checked-in YAML files: what their sources compile to, documented, and fit for a cluster."""

from pathlib import Path

import pytest
import yaml

from taoemb.config import load_config
from taoemb.jobs.pipelines import BASE_IMAGE, compile_pipelines, read_pipeline, read_spec
from taoemb.jobs.steps import STAGES

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("grpo", "sft")


def test_each_file_is_what_its_source_compiles_to():
    states = {entry.name: entry.state for entry in compile_pipelines(ROOT / "pipelines", check=True)}
    assert states == dict.fromkeys(NAMES, "unchanged"), "run `taoemb pipeline compile`"


def test_check_passes_on_the_command_line(taoemb):
    done = taoemb("compile", "--check", "--dir", ROOT / "pipelines")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_documented_and_only_data_is_needed(name):
    pipeline = read_pipeline(ROOT / "pipelines" / f"{name}.yaml")
    assert [entry.name for entry in pipeline.parameters.values() if entry.required] == ["data"]
    assert all(entry.description for entry in pipeline.parameters.values())
    page = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    for entry in pipeline.parameters.values():
        default = "needed" if entry.required else f"`{entry.default!r}`".replace("'", '"')
        both = "both" if entry.name in read_pipeline(ROOT / "pipelines" / "sft.yaml").parameters else "grpo"
        assert f"| `{entry.name}` | {entry.kind} | {default} | {both} |" in page, entry.name
    assert {output.file for output in pipeline.outputs} == {"release", "report.html", "metrics.json"}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_cluster_reads(name):
    (spec,) = read_spec(ROOT / "pipelines" / f"{name}.yaml")
    tasks = spec["root"]["dag"]["tasks"]
    assert {entry["container"]["image"] for entry in spec["deploymentSpec"]["executors"].values()} == {BASE_IMAGE}
    assert "cacheKey" not in yaml.safe_dump(spec)
    uncached = {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")}
    assert uncached == {"validate", "gate", "publish"}
    assert {name for name, task in tasks.items() if "retryPolicy" not in task} == {"validate", "gate"}
    assert "gate" in tasks["publish"]["dependentTasks"]


def test_every_section_that_is_a_step_s_own_is_given_to_it():
    sections = set(load_config().model_dump())
    given = {section for part in STAGES.values() for section in part}
    assert given <= sections
    assert sections - given == {"hard_negatives", "live_infonce"}  # baselines that no pipeline runs
