"""What an API server does with a custom resource's schema: defaults, closed validation, CEL rules."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import celpy
import jsonschema_rs
import pytest
import yaml
from celpy.adapter import json_to_cel

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "manifests" / "crds" / "encoderrollout.yaml"
KSERVE = ROOT.parent / "shared" / "crds" / "kserve" / "serving.kserve.io_inferenceservices.yaml"
TRAINER = ROOT.parent / "shared" / "crds" / "trainer" / "trainer.kubeflow.org_trainjobs.yaml"
PIPELINES = ROOT.parent / "shared" / "crds" / "kfp"
PIPELINES_SOURCE = "https://github.com/kubeflow/pipelines/tree/2.17.0/manifests/kustomize/base/crds"
TRAINER_SOURCE = "https://github.com/kubeflow/trainer/tree/v2.3.0/manifests/base/crds"
KSERVE_SOURCE = "https://github.com/kserve/kserve/tree/v0.20.0/config/crd/full"


class _Loader(yaml.CSafeLoader):
    """Reads the bare `=` of some enums as text."""


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] != "tag:yaml.org,2002:value"]
    for first, entries in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


class Schema:
    """One version's schema of a CustomResourceDefinition file."""

    def __init__(self, file: Path) -> None:
        text = file.read_text(encoding="utf-8")
        (version,) = [one for one in yaml.load(text, _Loader)["spec"]["versions"] if one["served"]]
        self.tree: dict[str, Any] = version["schema"]["openAPIV3Schema"]
        self._validator = jsonschema_rs.Draft4Validator(closed(self.tree), validate_formats=False)

    def errors(self, body: dict[str, Any]) -> list[str]:
        """Everything that is wrong, unknown fields included."""
        return [
            f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in self._validator.iter_errors(body)
        ]

    def broken_rules(self, body: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
        """Messages of the CEL rules that say no; `old` is the object before an update."""
        return list(_broken(self.tree, body, old))

    def broken_defaults(self) -> list[str]:
        """What an API server refuses a definition for: a default that breaks its own schema or rules.

        It checks each default as it is written, before the defaults inside it are filled in.
        """
        return list(_broken_defaults(self.tree, ""))

    def defaulted(self, body: dict[str, Any]) -> dict[str, Any]:
        """The object with the schema's defaults filled in."""
        return _default(self.tree, body)


@lru_cache
def encoder_rollouts() -> Schema:
    """The schema of EncoderRollout."""
    return Schema(OWN)


@lru_cache
def inference_services() -> Schema | None:
    """The schema of KServe's InferenceService; None where the file is not there."""
    return Schema(KSERVE) if KSERVE.is_file() else None


@lru_cache
def train_jobs() -> Schema | None:
    """The schema of TrainJob; None where the file is not there."""
    return Schema(TRAINER) if TRAINER.is_file() else None


def need_train_jobs() -> Schema:
    """The same; skips the test and says how to get the file."""
    schema = train_jobs()
    if schema is None:
        pytest.skip(
            f"Kubeflow Trainer's CRD is missing: put {TRAINER.name} from {TRAINER_SOURCE} into {TRAINER.parent}"
        )
    return schema


@lru_cache
def need_pipelines(kind: str) -> Schema:
    """The schema of Kubeflow Pipelines' Pipeline or PipelineVersion; skips the test and says how to get the file."""
    file = PIPELINES / f"pipelines.kubeflow.org_{kind.lower()}s.yaml"
    if not file.is_file():
        pytest.skip(f"Kubeflow Pipelines' CRD is missing: put {file.name} from {PIPELINES_SOURCE} into {PIPELINES}")
    return Schema(file)


def need_inference_services() -> Schema:
    """The same; skips the test and says how to get the file."""
    schema = inference_services()
    if schema is None:
        pytest.skip(f"KServe's CRD is missing: put {KSERVE.name} from {KSERVE_SOURCE} into {KSERVE.parent}")
    return schema


def closed(node: Any) -> Any:
    """A structural schema in which unknown fields are errors."""
    if isinstance(node, list):
        return [closed(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    made = {}
    for key, value in node.items():
        if key == "properties":
            made[key] = {name: closed(entry) for name, entry in value.items()}
        else:
            made[key] = value if key in ("default", "enum", "required") else closed(value)
    if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def _default(schema: dict[str, Any], value: Any) -> Any:
    if isinstance(value, dict) and "properties" in schema:
        value = dict(value)
        for name, entry in schema["properties"].items():
            if name not in value and "default" in entry:
                value[name] = entry["default"]
            if name in value:
                value[name] = _default(entry, value[name])
    if isinstance(value, list) and "items" in schema:
        value = [_default(schema["items"], entry) for entry in value]
    return value


def _broken(schema: dict[str, Any], value: Any, old: Any):
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"]:
            if old is not None and not _holds(rule["rule"], {"self": value, "oldSelf": old}):
                yield rule["message"]
        elif not _holds(rule["rule"], {"self": value}):
            yield rule["message"]
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, entry in schema.get("properties", {}).items():
            if name in value:
                yield from _broken(entry, value[name], before.get(name))
    if isinstance(value, list):
        for entry in value:
            yield from _broken(schema["items"], entry, None)


def _broken_defaults(schema: dict[str, Any], path: str):
    if "default" in schema:
        raw = schema["default"]
        validator = jsonschema_rs.Draft4Validator(closed(schema), validate_formats=False)
        yield from (f"{path}.default: {error.message}" for error in validator.iter_errors(raw))
        try:
            yield from (f"{path}.default: {message}" for message in _broken(schema, raw, raw))
        except celpy.CELEvalError as error:
            yield f"{path}.default: {error.args[0]}"
    for name, entry in schema.get("properties", {}).items():
        yield from _broken_defaults(entry, f"{path}.{name}")
    if "items" in schema:
        yield from _broken_defaults(schema["items"], f"{path}[]")


@lru_cache
def _program(rule: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def _holds(rule: str, names: dict[str, Any]) -> bool:
    return bool(_program(rule).evaluate({name: json_to_cel(value) for name, value in names.items()}))
