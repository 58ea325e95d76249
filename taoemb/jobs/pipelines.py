"""Pipelines as files: what a compiled one offers and wants.

The compiled YAML is the one thing that runs everywhere, so everything here works on that file: its parameters, its
steps and its outputs are read from it, never from the Python source. Reading needs no kfp.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from taoemb import __version__
from taoemb.errors import InputError

BASE_IMAGE = f"ghcr.io/taoemb/trainer:{__version__}"
"""The image that components run in; `compile_pipeline(image=…)` puts another in its place."""

_TYPES = {
    "STRING": "str",
    "NUMBER_INTEGER": "int",
    "NUMBER_DOUBLE": "float",
    "BOOLEAN": "bool",
    "LIST": "list",
    "STRUCT": "dict",
}
HANDED_OUT = ("release", "report", "metrics")
"""Artefacts that a pipeline without declared outputs hands out."""
_EXTENSIONS = {"system.HTML": ".html", "system.Metrics": ".json", "system.Markdown": ".md"}


@dataclass(frozen=True)
class Parameter:
    """One typed parameter of a pipeline; `default` is None when it must be given."""

    name: str
    kind: str
    default: Any
    required: bool
    description: str


@dataclass(frozen=True)
class Step:
    """One task that does work. `name` is its folder and log; `task` its name in the graph; `title` what people read."""

    name: str
    task: str
    title: str


@dataclass(frozen=True)
class Output:
    """An artefact that the pipeline hands out: `file` is its name in a run's folder."""

    name: str
    file: str
    step: str
    artifact: str


@dataclass(frozen=True)
class Pipeline:
    """What a compiled file says of itself."""

    name: str
    path: Path
    description: str
    parameters: Mapping[str, Parameter]
    steps: Sequence[Step]
    outputs: Sequence[Output]


def read_pipeline(path: Path) -> Pipeline:
    """Read a compiled pipeline; InputError when `path` is not one."""
    spec = read_spec(path)[0]
    root = spec["root"]
    given = root.get("inputDefinitions", {}).get("parameters", {})
    return Pipeline(
        name=spec["pipelineInfo"]["name"],
        path=path,
        description=spec["pipelineInfo"].get("description", ""),
        parameters={name: _parameter(name, entry) for name, entry in given.items()},
        steps=_steps(spec),
        outputs=_outputs(spec),
    )


def read_spec(path: Path) -> list[dict[str, Any]]:
    """The YAML documents of a compiled pipeline: its spec, then (perhaps) its platform part."""
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{path}: not YAML; expected a compiled pipeline (`taoemb pipeline compile`)") from None
    spec = documents[0] if documents else None
    wanted = ("pipelineInfo", "root", "deploymentSpec", "components")
    if not isinstance(spec, dict) or any(not isinstance(spec.get(key), dict) for key in wanted):
        raise InputError(f"{path}: not a compiled pipeline; make one with `taoemb pipeline compile`")
    return documents


def _parameter(name: str, entry: Mapping[str, Any]) -> Parameter:
    kind = _TYPES.get(entry["parameterType"], "str")
    default = entry.get("defaultValue")
    return Parameter(
        name=name,
        kind=kind,
        default=int(default) if kind == "int" and default is not None else default,
        required=not entry.get("isOptional", False),
        description=entry.get("description", ""),
    )


def _steps(spec: Mapping[str, Any]) -> list[Step]:
    components = spec["components"]
    dags = [spec["root"]["dag"], *(entry["dag"] for entry in components.values() if "dag" in entry)]
    tasks = [(name, task) for dag in dags for name, task in dag["tasks"].items()]
    return [
        Step(task["componentRef"]["name"].removeprefix("comp-"), name, task["taskInfo"]["name"])
        for name, task in tasks
        if "executorLabel" in components[task["componentRef"]["name"]]
    ]


def _outputs(spec: Mapping[str, Any]) -> list[Output]:
    """What the pipeline declares, or (nothing inside an exit handler can be) what is made last of each name."""
    root = spec["root"]
    declared = root["dag"].get("outputs", {}).get("artifacts", {})
    if not declared:
        return _made_last(spec)
    found = []
    for name, entry in declared.items():
        producer = entry["artifactSelectors"][0]
        component = root["dag"]["tasks"][producer["producerSubtask"]]["componentRef"]["name"]
        found.append(_output(spec, name, component, producer["outputArtifactKey"]))
    return found


def _made_last(spec: Mapping[str, Any]) -> list[Output]:
    components = spec["components"]
    found: dict[str, Output] = {}
    for dag in [spec["root"]["dag"], *(entry["dag"] for entry in components.values() if "dag" in entry)]:
        needs = {name: task.get("dependentTasks", ()) for name, task in dag["tasks"].items()}
        for task in TopologicalSorter(needs).static_order():
            component = dag["tasks"][task]["componentRef"]["name"]
            for key in components[component].get("outputDefinitions", {}).get("artifacts", {}):
                if key in HANDED_OUT:
                    found[key] = _output(spec, key, component, key)
    return [found[name] for name in HANDED_OUT if name in found]


def _output(spec: Mapping[str, Any], name: str, component: str, key: str) -> Output:
    schema = spec["components"][component]["outputDefinitions"]["artifacts"][key]["artifactType"]["schemaTitle"]
    return Output(name, name + _EXTENSIONS.get(schema, ""), component.removeprefix("comp-"), key)


def parse_arguments(pipeline: Pipeline, texts: Sequence[str]) -> dict[str, Any]:
    """Turn `["steps=100", …]` into typed arguments; InputError names the parameter that is unknown or badly typed."""
    arguments: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--param {text!r}: expected name=value")
        if name not in pipeline.parameters:
            known = ", ".join(pipeline.parameters)
            raise InputError(f"--param {name}: {pipeline.name} has no such parameter; it has {known}")
        arguments[name] = _value(pipeline.parameters[name], value)
    return arguments


def require_arguments(pipeline: Pipeline, arguments: Mapping[str, Any]) -> None:
    """InputError when a parameter without default is not among `arguments`."""
    missing = [name for name, entry in pipeline.parameters.items() if entry.required and name not in arguments]
    if missing:
        entry = pipeline.parameters[missing[0]]
        raise InputError(f"--param {entry.name}=… is needed: {entry.description or entry.kind}")


def _value(parameter: Parameter, text: str) -> Any:
    problem = InputError(f"--param {parameter.name}: expected {parameter.kind}, got {text!r}")
    if parameter.kind == "str":
        return text
    if parameter.kind == "bool":
        truth = {"true": True, "false": False}.get(text.lower())
        if truth is None:
            raise InputError(f"{problem} (true or false)")
        return truth
    if parameter.kind in ("int", "float"):
        try:
            number = int(text) if parameter.kind == "int" else float(text)
        except ValueError:
            raise problem from None
        if not math.isfinite(number):
            raise problem
        return number
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise InputError(f"{problem} (as JSON)") from None
    if not isinstance(value, list if parameter.kind == "list" else dict):
        raise InputError(f"{problem} (as JSON)")
    return value
