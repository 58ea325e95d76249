"""release.json: what a release is, and the digest that names it.

The digest covers what decides the vectors (every file, both templates, pooling, dimension, metric, token limits) and
nothing else: the same encoder always has the same digest, whenever and however it was trained. The item encoder has a
digest of its own, because a collection of vectors belongs to it and outlives the query encoder.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from taoemb.errors import InputError

Pooling = Literal["mean", "cls", "last"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
MANIFEST = "release.json"
ITEM_FOLDER = "item_encoder"
FORMAT = 1
_SCAFFOLD = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "README.md")


@dataclass(frozen=True)
class Manifest:
    """The content of release.json."""

    digest: str
    """sha256 (hex) of everything that decides this release's vectors."""
    item_encoder_digest: str
    """The same for the item encoder alone: releases that agree in it share a collection."""
    base_model: str
    pooling: Pooling
    dimension: int
    query_template: str
    item_template: str
    max_query_tokens: int
    max_item_tokens: int
    files: Mapping[str, str]
    """Path inside the folder → sha256 of the file."""
    metric: str = "cosine"
    parent: str | None = None
    """Digest of the release that this one was trained from."""
    collection: str | None = None
    """The Milvus collection that this release searches, once published; not part of the digest."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Free record of the run: objective, settings, digest of the judge that gave reward; not part of the digest."""
    created: str = ""
    """UTC time, ISO 8601."""


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Every file under `folder` that belongs to a release (not release.json, not dot-files), by POSIX path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    inside = ((path.relative_to(folder), path) for path in paths)
    return {
        relative.as_posix(): sha256_file(path)
        for relative, path in inside
        if relative.as_posix() != MANIFEST and not any(part.startswith(".") for part in relative.parts)
    }


def item_digest(files: Mapping[str, str], identity: Mapping[str, Any]) -> str:
    """The item encoder's digest: weights, model config, tokenizer, item template, pooling, dimension, limit, metric.

    `files` are those of the whole release; files that only tell sentence-transformers how to load it do not count.
    """
    inside = {name.removeprefix(f"{ITEM_FOLDER}/"): sha for name, sha in files.items() if _in_item_folder(name)}
    own = inside or dict(files)
    counted = {name: sha for name, sha in own.items() if name not in _SCAFFOLD and "/" not in name}
    keys = ("pooling", "dimension", "item_template", "max_item_tokens", "metric")
    return _digest({"files": counted, **{key: identity[key] for key in keys}})


def release_digest(files: Mapping[str, str], identity: Mapping[str, Any]) -> str:
    """The release's digest over `files` and the identity fields."""
    keys = ("pooling", "dimension", "metric", "query_template", "item_template", "max_query_tokens", "max_item_tokens")
    return _digest({"format": FORMAT, "files": dict(files), **{key: identity[key] for key in keys}})


def collection_name(prefix: str, item_encoder_digest: str) -> str:
    """The name of the collection embedded with that item encoder: ``{prefix}_{first 16 hex digits}``."""
    return f"{prefix}_{item_encoder_digest[:16]}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write release.json whole or not at all."""
    content = json.dumps({"format": FORMAT, **dataclasses.asdict(manifest)}, indent=2, ensure_ascii=False)
    partial = folder / f".{MANIFEST}.{os.getpid()}"
    partial.write_text(content + "\n", encoding="utf-8")
    os.replace(partial, folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Read release.json without looking at the other files. Raises InputError when it is missing or malformed."""
    path = folder / MANIFEST
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"{folder}: not a release (no readable {MANIFEST}); give the folder that training wrote"
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); restore the file or make the release again") from None
    return _parse(tree, path)


def verify(folder: Path, manifest: Manifest) -> None:
    """Hash the folder and compare it with `manifest`. Raises InputError naming the first file that differs."""
    files = hash_files(folder)
    for name in sorted(files.keys() | manifest.files.keys()):
        if name not in files:
            raise InputError(f"{folder}: {name} is missing from the release; copy the whole folder again")
        if name not in manifest.files:
            raise InputError(f"{folder}: {name} does not belong to the release; move it out of the folder")
        if files[name] != manifest.files[name]:
            raise InputError(f"{folder}: {name} was changed after the release was made; copy the folder again")
    identity = dataclasses.asdict(manifest)
    same = release_digest(files, identity) == manifest.digest
    if not same or item_digest(files, identity) != manifest.item_encoder_digest:
        raise InputError(
            f"{folder / MANIFEST}: a setting was changed after the release was made; copy the folder again"
        )


def _in_item_folder(name: str) -> bool:
    return name.startswith(f"{ITEM_FOLDER}/")


def _digest(tree: Mapping[str, Any]) -> str:
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


_TYPES: dict[str, type | tuple[type, ...]] = {
    "digest": str,
    "item_encoder_digest": str,
    "base_model": str,
    "pooling": str,
    "dimension": int,
    "query_template": str,
    "item_template": str,
    "max_query_tokens": int,
    "max_item_tokens": int,
    "files": dict,
    "metric": str,
    "parent": (str, type(None)),
    "collection": (str, type(None)),
    "training": dict,
    "created": str,
}


def _parse(tree: Any, path: Path) -> Manifest:
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected an object, found {type(tree).__name__}; make the release again")
    if tree.get("format") != FORMAT:
        raise InputError(f"{path}: format {tree.get('format')!r}, this version reads {FORMAT}; make the release again")
    for key, kind in _TYPES.items():
        if key not in tree:
            raise InputError(f"{path}: {key} is missing; make the release again")
        if not isinstance(tree[key], kind):
            raise InputError(f"{path}: {key} is {tree[key]!r}, of the wrong type; make the release again")
    if tree["pooling"] not in POOLINGS:
        raise InputError(f"{path}: pooling {tree['pooling']!r} is unknown; use one of {', '.join(POOLINGS)}")
    return Manifest(**cast(dict[str, Any], {key: tree[key] for key in _TYPES}))
