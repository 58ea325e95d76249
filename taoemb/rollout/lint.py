"""Checks what people write before a rollout, a plan or EncoderRollout manifests, with the library's own readers.

An API server checks a manifest only when it is applied, and never what the library alone knows of a plan.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from taoemb.errors import InputError
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS, KIND, plan_from_spec, plan_to_spec
from taoemb.rollout.plan import parse_plan
from taoemb.settings.yaml_text import read_documents

_SPEC = {"inferenceService", "candidate", "plan", "request", "paused", "pauseReason"}
_DIGEST = re.compile("[0-9a-f]{64}")
_SERVICE = re.compile("[a-z]([-a-z0-9]{0,38}[a-z0-9])?")


def lint_file(file: Path) -> str:
    """What the file holds, in words. Raises InputError with the file, the key and what is wrong."""
    try:
        documents = [tree for tree in read_documents(file.read_text(encoding="utf-8")) if tree is not None]
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    manifests = [tree for tree in documents if isinstance(tree, Mapping) and "kind" in tree]
    if not manifests:
        if len(documents) > 1:
            raise InputError(f"{file}: holds {len(documents)} documents; a plan is one")
        plan = parse_plan(documents[0] if documents else {}, str(file))
        return f"a plan of {len(plan.steps)} steps"
    ours = [tree for tree in manifests if tree["kind"] == KIND]
    for tree in ours:
        _manifest(tree, f"{file}: {KIND} {(tree.get('metadata') or {}).get('name', '')}".rstrip())
    others = len(documents) - len(ours)
    return f"{len(ours)} {KIND}s" + (f", {others} other objects that were not looked at" if others else "")


def _manifest(tree: Mapping[str, Any], where: str) -> None:
    if tree.get("apiVersion") != ENCODER_ROLLOUTS.api_version:
        raise InputError(f"{where}: apiVersion {tree.get('apiVersion')!r}: expected {ENCODER_ROLLOUTS.api_version}")
    spec = tree.get("spec")
    if not isinstance(spec, Mapping):
        raise InputError(f"{where}: spec is needed")
    if unknown := sorted(map(str, set(spec) - _SPEC)):
        raise InputError(f"{where}: spec.{unknown[0]}: no such field; there are {', '.join(sorted(_SPEC))}")
    _needs(_SERVICE, spec.get("inferenceService"), f"{where}: spec.inferenceService", "at most 40 letters")
    candidate = spec.get("candidate")
    if not isinstance(candidate, Mapping):
        raise InputError(f"{where}: spec.candidate is needed: release and storageUri")
    _needs(_DIGEST, candidate.get("release"), f"{where}: spec.candidate.release", "64 hexadecimal digits")
    if not candidate.get("storageUri"):
        raise InputError(f"{where}: spec.candidate.storageUri is needed: where KServe loads the release from")
    plan = spec.get("plan", {})
    if not isinstance(plan, Mapping):
        raise InputError(f"{where}: spec.plan: expected a mapping, found a {type(plan).__name__}")
    parsed = plan_from_spec(plan, f"{where}: spec.plan")
    try:
        plan_to_spec(parsed)
    except InputError as error:
        raise InputError(f"{where}: spec.plan: {error}") from None


def _needs(pattern: re.Pattern[str], value: object, where: str, words: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(f"{where} {value!r}: expected {words}")
