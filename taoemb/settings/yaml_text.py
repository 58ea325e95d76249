"""Reads YAML that a person wrote: a key that stands twice is an error, where YAML's own loaders keep the last one."""

from collections.abc import Hashable
from typing import Any

import yaml


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that names a key twice; what `<<` merges in may be overridden, as YAML has it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for name, _ in node.value:
            if name.tag == "tag:yaml.org,2002:merge" or not isinstance(name, yaml.ScalarNode):
                continue
            key = self.construct_object(name, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", name.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """The one document in `text`. Raises yaml.YAMLError, also when a mapping names a key twice."""
    return yaml.load(text, _UniqueKeys)  # noqa: S506 (a SafeLoader)


def read_documents(text: str) -> list[Any]:
    """All documents in `text`. Raises yaml.YAMLError, also when a mapping names a key twice."""
    return list(yaml.load_all(text, _UniqueKeys))
