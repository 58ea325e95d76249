"""The difference between two objects as a JSON patch (RFC 6902), which kustomize takes for every kind.

A strategic merge patch would need to know how each kind merges its lists; custom kinds don't say.
"""

from typing import Any

Operation = dict[str, Any]


def patch(before: Any, after: Any, path: str = "") -> list[Operation]:
    """Operations that make `after` of `before`; lists of the same length are compared item by item."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        return _of_objects(before, after, path)
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [one for index, (old, new) in pairs for one in patch(old, new, f"{path}/{index}")]
    return [{"op": "replace", "path": path, "value": after}]


def _of_objects(before: dict[str, Any], after: dict[str, Any], path: str) -> list[Operation]:
    operations: list[Operation] = []
    for name in before:
        here = f"{path}/{_escaped(name)}"
        if name in after:
            operations += patch(before[name], after[name], here)
        else:
            operations.append({"op": "remove", "path": here})
    added = [name for name in after if name not in before]
    return operations + [{"op": "add", "path": f"{path}/{_escaped(name)}", "value": after[name]} for name in added]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
