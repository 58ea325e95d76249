"""What the chart tells taoemb is what taoemb takes: settings files, command lines, rights, metrics."""

import json
import re
from pathlib import Path

import click
import promql_parser
import pytest
import typer
from prometheus_client import CollectorRegistry

from taoemb.cli.main import app
from taoemb.config import load_config
from taoemb.hosting.metrics import batch_metrics
from taoemb.judge.metrics import judge_metrics
from taoemb.rollout.controller.health import Health
from taoemb.serving.encoder.metrics import PREFIX, encoder_metrics
from taoemb.serving.events.recorder_metrics import recorder_metrics
from taoemb.serving.gateway.metrics import gateway_metrics
from taoemb.training.tracking import Exposed
from tests.helm.rendering import CHART, MATRIX, Object, name_of, objects, of_kind, pod_templates

SETTINGS = Path("/etc/taoemb/settings/settings.yaml")


def settings_of(found: list[Object], pod: Object, folder: Path):
    """The settings that a pod starts with."""
    (volume,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "settings"]
    (config_map,) = [
        one for one in of_kind(found, "ConfigMap") if one["metadata"]["name"] == volume["configMap"]["name"]
    ]
    file = folder / "settings.yaml"
    file.write_text(config_map["data"]["settings.yaml"])
    return load_config(file)


@pytest.mark.parametrize("values", MATRIX)
def test_every_settings_file_loads(values, tmp_path):
    loaded = 0
    for one in of_kind(objects(values), "ConfigMap"):
        if "settings.yaml" in one["data"]:
            file = tmp_path / "settings.yaml"
            file.write_text(one["data"]["settings.yaml"])
            load_config(file)
            loaded += 1
    assert loaded >= 2


@pytest.mark.parametrize("values", MATRIX)
def test_files_that_settings_name_are_mounted(values, tmp_path):
    found = objects(values)
    for name, pod in pod_templates(found):
        mounts = {
            mount["mountPath"]: mount
            for container in pod["spec"]["containers"]
            for mount in container.get("volumeMounts", ())
        }
        if "/etc/taoemb/settings" not in mounts:
            continue
        tree = settings_of(found, pod, tmp_path).model_dump(mode="json")
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for path in (Path(text) for text in _paths(tree) if text.startswith("/etc/taoemb")):
            mount = mounts[str(path.parent)]
            assert path.name in [item["path"] for item in volumes[mount["name"]]["secret"]["items"]], name
        for text in _paths(tree):
            if text.startswith("/var/lib/taoemb"):
                assert not mounts["/var/lib/taoemb"].get("readOnly"), name


def _paths(tree: object) -> list[str]:
    if isinstance(tree, dict):
        return [path for entry in tree.values() for path in _paths(entry)]
    return [tree] if isinstance(tree, str) and tree.startswith("/") else []


@pytest.mark.parametrize("values", MATRIX)
def test_the_gateway_follows_the_encoder_of_the_chart(values, tmp_path):
    found = objects(values)
    names = [one["metadata"]["name"] for one in of_kind(found, "InferenceService")]
    for name, pod in pod_templates(found):
        if name.startswith("Deployment") and name.endswith("-gateway"):
            traffic = settings_of(found, pod, tmp_path).gateway.traffic
            assert traffic.removeprefix("kserve://search/") in names


@pytest.mark.parametrize("values", MATRIX)
def test_command_lines_are_taoembs(values):
    seen = set()
    for name, pod in pod_templates(objects(values)):
        for container in pod["spec"]["containers"]:
            if container.get("command") == ["taoemb"]:
                seen.add(_parse(container["args"]))
                port = [argument.removeprefix("--port=") for argument in container["args"] if "--port=" in argument]
                assert not port or int(port[0]) in [one["containerPort"] for one in container["ports"]], name
    assert {"encoder", "gateway"} <= seen


def _parse(arguments: list[str]) -> str:
    """The command's own name; raises click's error for an unknown command or option."""
    command, rest = typer.main.get_command(app), list(arguments)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    rest = [re.sub(r"^(--config)=.*", r"\1=/dev/null", argument) for argument in rest]
    rest = [re.sub(r"^(--release)=.*", r"\1=/", argument) for argument in rest]
    command.make_context(command.name, rest)
    return command.name


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """Names of every metric that some part of taoemb shows."""
    registry = CollectorRegistry()
    gateway_metrics(registry)
    recorder_metrics(registry)
    encoder_metrics(registry)
    judge_metrics(registry)
    batch_metrics(PREFIX, "texts", registry)
    batch_metrics("taoemb_judge_server", "pairs", registry)
    exposed = Exposed("127.0.0.1", 0)
    exposed.close()
    shown = Health(60).answer("/metrics")[1].decode()
    names = {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE")}
    for family in [*registry.collect(), *exposed.registry.collect()]:
        names |= {f"{family.name}{suffix}" for suffix in _SUFFIXES[family.type]}
    return names


_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "info": ("_info",),
    "histogram": ("_bucket", "_sum", "_count"),
}


def expressions() -> list[str]:
    """Every PromQL expression of alerts and dashboards."""
    rules = of_kind(objects("gpu"), "PrometheusRule")
    found = [rule["expr"] for one in rules for group in one["spec"]["groups"] for rule in group["rules"]]
    for file in sorted((CHART / "files" / "dashboards").glob("*.json")):
        found += [target["expr"] for panel in json.loads(file.read_text())["panels"] for target in panel["targets"]]
    return found


def test_alerts_and_dashboards_ask_for_metrics_that_exist(metrics):
    asked = {name for text in expressions() for name in re.findall(r"\btaoemb_\w+", text)}
    assert len(asked) > 20
    assert asked - metrics == set()


def test_alerts_cover_what_can_go_wrong():
    (rules,) = of_kind(objects("gpu"), "PrometheusRule")
    names = {rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    assert names >= {
        "TaoembJudgeDown",
        "TaoembEmbeddingCollapse",
        "TaoembDigestMismatch",
        "TaoembSampleRatioMismatch",
        "TaoembCanaryGuardrail",
    }
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"].keys() == {"summary", "action", "runbook_url"}


def test_expressions_are_promql():
    for text in expressions():
        promql_parser.parse(text.replace("$__rate_interval", "5m"))


def test_jobs_of_monitors_are_those_that_alerts_name():
    found = objects("gpu")
    jobs = {f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in of_kind(found, "PodMonitor")}
    asked = {job for text in expressions() for job in re.findall(r'job="([^"]+)"', text)}
    assert asked
    assert asked <= jobs


@pytest.mark.parametrize("values", MATRIX)
def test_the_test_pod_runs_python(values):
    for one in of_kind(objects(values), "Pod"):
        command = one["spec"]["containers"][0]
        assert command["command"] == ["python", "-c"], name_of(one)
        compile(command["args"][0], "search_check.py", "exec")
        assert command["args"][1].startswith("http://")
