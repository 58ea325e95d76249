"""Schemas of what the chart makes: the projects' CRDs, closed, and Kubernetes' own kinds, strict."""

import json
from functools import cache
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from scripts.fetch_crds import crd_folder
from tests.helm.rendering import CORE, Object
from tests.rollout.crd_rules import _Loader, closed

KUBERNETES = "1.36"
_PROJECTS = {
    "serving.kserve.io": "kserve",
    "trainer.kubeflow.org": "trainer",
    "gateway.networking.k8s.io": "gateway-api",
    "milvus.io": "milvus-operator",
    "monitoring.coreos.com": "prometheus-operator",
}


def errors(one: Object) -> list[str]:
    """Everything that is wrong with an object, unknown fields included; skips without the CRDs."""
    text = json.dumps(one, sort_keys=True)
    return _core_errors(text) if one["apiVersion"] in CORE else _custom_errors(one["apiVersion"], one["kind"], text)


@cache
def _core_errors(text: str) -> list[str]:
    try:
        kubernetes_validate.validate(json.loads(text), KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


@cache
def _custom_errors(api_version: str, kind: str, text: str) -> list[str]:
    found = _validator(api_version, kind).iter_errors(json.loads(text))
    return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in found]


@cache
def _validator(api_version: str, kind: str) -> jsonschema_rs.Draft4Validator:
    group, version = api_version.split("/")
    tree = _definitions(_PROJECTS[group])[kind, version]
    return jsonschema_rs.Draft4Validator(closed(tree), validate_formats=False)


@cache
def _definitions(project: str) -> dict[tuple[str, str], Any]:
    """The schema of each kind and version of a project."""
    folder = crd_folder()
    if folder is None:
        pytest.skip("the projects' CRDs are not here: run `python scripts/fetch_crds.py` (needs a network)")
    found = {}
    for file in sorted((folder / project).glob("*.yaml")):
        for document in yaml.load_all(file.read_text(encoding="utf-8"), _Loader):
            if document and document["kind"] == "CustomResourceDefinition":
                spec = document["spec"]
                for one in spec["versions"]:
                    found[spec["names"]["kind"], one["name"]] = _without_flags(one["schema"]["openAPIV3Schema"])
    return found


def _without_flags(node: Any) -> Any:
    """The schema without patterns that only Go reads (a flag in their middle)."""
    if isinstance(node, list):
        return [_without_flags(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    kept = {key: entry for key, entry in node.items() if not (key == "pattern" and "(?i)" in entry)}
    return {key: _without_flags(entry) for key, entry in kept.items()}
