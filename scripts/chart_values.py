"""What the chart's values.yaml says of each value: its default, its words, its schema.

A comment that starts with `--` documents the key below it; a comment line that starts with `@` is JSON schema in YAML's
flow style, for what the default alone does not tell.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_KEY = re.compile(r"^( *)([\w-]+):")
_INDENT = 2


class Undocumented(Exception):
    """A value lacks its comment, or its schema can't be told."""


@dataclass(frozen=True)
class Value:
    """One documented value."""

    path: tuple[str, ...]
    default: Any
    text: str
    schema: Mapping[str, Any]


def read_values(file: Path) -> list[Value]:
    """Every value in the order of the file. Raises Undocumented."""
    text = file.read_text(encoding="utf-8")
    tree = yaml.safe_load(text)
    found = [_value(path, comment, tree) for path, comment in _documented(text)]
    _check_complete(tree, {value.path for value in found})
    return found


def _documented(text: str) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Path and comment lines of each key that has a `--` comment."""
    stack: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            continue
        key = _KEY.match(line)
        if key and any(said.startswith("-- ") for said in comment):
            yield (*stack[: len(key[1]) // _INDENT], key[2]), comment
        if key:
            stack[len(key[1]) // _INDENT :] = [key[2]]
        comment = []


def _value(path: tuple[str, ...], comment: list[str], tree: Any) -> Value:
    default = tree
    for part in path:
        default = default[part]
    start = next(index for index, line in enumerate(comment) if line.startswith("-- "))
    said = [line for line in comment[start:] if not line.startswith("@")]
    schemas = [line.removeprefix("@") for line in comment[start:] if line.startswith("@")]
    schema = yaml.safe_load(schemas[0]) if schemas else _inferred(path, default)
    return Value(path, default, " ".join(said).removeprefix("-- "), schema)


def _inferred(path: tuple[str, ...], default: Any) -> dict[str, Any]:
    if isinstance(default, bool):
        return {"type": "boolean"}
    if isinstance(default, str):
        return {"type": "string"}
    raise Undocumented(f"{'.'.join(path)}: give its schema in a line '# @ {{…}}'")


def _check_complete(tree: Any, documented: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> None:
    if path in documented:
        return
    if not isinstance(tree, dict) or not tree:
        raise Undocumented(f"{'.'.join(path)}: give it a comment '# -- …'")
    for key, inner in tree.items():
        _check_complete(inner, documented, (*path, key))
