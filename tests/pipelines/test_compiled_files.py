"""The checked-in YAML files: what their sources compile to, documented, and fit for a cluster."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cluster import MOUNT, SECRETS
from taoemb.config import PIPELINE_RUN, load_config
from taoemb.jobs.pipeline_compile import compile_pipelines
from taoemb.jobs.pipelines import BASE_IMAGE, Parameter, read_pipeline, read_spec
from taoemb.jobs.steps import STAGES
from tests.rollout.crd_rules import need_pipelines

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


def parts(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A compiled file's spec, the tasks inside its exit handler (or all), and what Kubernetes gets of each executor."""
    spec, platform = read_spec(ROOT / "pipelines" / f"{name}.yaml")
    handler = spec["components"].get("comp-exit-handler-1")
    tasks = handler["dag"]["tasks"] if handler else spec["root"]["dag"]["tasks"]
    return spec, tasks, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_the_rollout_comes_last_and_only_when_asked_for():
    spec, tasks, _ = parts("grpo")
    (condition,) = [task for task in tasks.values() if "triggerPolicy" in task]
    assert condition["triggerPolicy"]["condition"].endswith("rollout'] != ''")
    assert "publish" in condition["dependentTasks"]
    inner = spec["components"][condition["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inner) == {"rollout"}
    assert not inner["rollout"]["cachingOptions"].get("enableCache")
    assert "retryPolicy" in inner["rollout"]


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_what_a_cluster_reads(name):
    spec, tasks, _ = parts(name)
    assert {entry["container"]["image"] for entry in spec["deploymentSpec"]["executors"].values()} == {BASE_IMAGE}
    assert "cacheKey" not in yaml.safe_dump(spec)
    tasks = {name: task for name, task in tasks.items() if "triggerPolicy" not in task}
    uncached = {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")}
    assert uncached == {"validate", "gate", "publish"}
    retried = {name: task["retryPolicy"] for name, task in tasks.items() if "retryPolicy" in task}
    assert set(tasks) - set(retried) == {"validate", "gate"}
    assert all(policy["backoffFactor"] == 2.0 and policy["maxRetryCount"] == 2 for policy in retried.values())
    assert "gate" in tasks["publish"]["dependentTasks"]


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_cleaning_up_comes_last_whatever_happened(name):
    spec, _, _ = parts(name)
    task = spec["root"]["dag"]["tasks"]["cleanup"]
    assert task["dependentTasks"] == ["exit-handler-1"]
    assert task["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert not task["cachingOptions"].get("enableCache")


@pytest.mark.parametrize("name", NAMES)
def test_every_step_has_the_volume_the_secret_and_its_nodes(name):
    spec, _, executors = parts(name)
    assert set(executors) == set(spec["deploymentSpec"]["executors"])
    for entry in executors.values():
        (volume,), (secret,) = entry["pvcMount"], entry["secretAsVolume"]
        assert (volume["mountPath"], secret["mountPath"]) == (MOUNT, SECRETS)
        assert secret["optional"] is True
        given = (volume["pvcNameParameter"], secret["secretNameParameter"], entry["tolerations"][0]["tolerationJson"])
        names = [entry["componentInputParameter"].removeprefix("pipelinechannel--") for entry in given]
        assert names == ["volume", "secret", "tolerations"]
        assert "nodeSelectorJson" in entry["nodeSelector"]
        assert entry["fieldPathAsEnv"] == [{"name": PIPELINE_RUN, "fieldPath": "metadata.labels['pipeline/runid']"}]


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_steps_that_train_or_embed_get_the_gpus_that_the_run_asks_for(name):
    spec, _, _ = parts(name)
    containers = {key: entry["container"] for key, entry in spec["deploymentSpec"]["executors"].items()}
    given = {
        key: one["resources"]["accelerator"]["resourceCount"] for key, one in containers.items() if "resources" in one
    }
    without = {"exec-validate", "exec-prepare", "exec-gate", "exec-rollout", "exec-cleanup"}
    assert set(given) == set(containers) - without
    assert set(given.values()) == {"{{$.inputs.parameters['pipelinechannel--gpus']}}"}
    handler = spec["root"]["dag"]["tasks"]["exit-handler-1"]["inputs"]["parameters"]
    assert handler["pipelinechannel--gpus"] == {"componentInputParameter": "gpus"}  # or no step would find it


def test_objects_for_a_repository_that_a_cluster_follows(taoemb, tmp_path):
    shutil.copytree(ROOT / "pipelines", tmp_path / "checkout" / "pipelines")
    shutil.copytree(ROOT / "components", tmp_path / "checkout" / "components")
    place = ("--dir", tmp_path / "checkout" / "pipelines", "--manifests", tmp_path / "objects")
    done = taoemb("compile", *place, "--namespace", "search")
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        pipeline, version = yaml.safe_load_all((tmp_path / "objects" / f"{name}.yaml").read_text())
        assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
        assert pipeline["metadata"] == {"name": f"taoemb-{name}", "namespace": "search"}
        assert version["metadata"]["name"].startswith(f"taoemb-{name}-")
        assert version["spec"]["pipelineName"] == f"taoemb-{name}"
        spec, platform = read_spec(ROOT / "pipelines" / f"{name}.yaml")
        assert version["spec"]["pipelineSpec"] == spec
        assert version["spec"]["platformSpec"] == platform
        for body in (pipeline, version):
            assert need_pipelines(body["kind"]).errors(body) == []


def test_every_section_that_is_a_step_s_own_is_given_to_it():
    sections = set(load_config().model_dump())
    given = {section for part in STAGES.values() for section in part}
    assert given <= sections
    assert sections - given == {
        "hard_negatives",
        "live_infonce",
        "kserve",
        "controller",
        "logs",
    }  # baselines, the controller's own, and how servers write their logs
