"""Attributes from whatever holds them: objects, maps, lists of name and value, JSON in a cell; all or an error."""

from collections.abc import Iterator
from typing import Any

from taoemb.data.importers.json_lines import strict_json
from taoemb.data.importers.values import ATTRIBUTE_NULLS, Reading, UnreadableError, as_text

_DEPTH = 32
_NAMED = ({"name", "value"}, {"key", "value"})
_REMEDY = "; name them one by one: --map attributes.NAME=COLUMN"


class Attributes:
    """The attributes of one item, name → text. A name has one value; another one for it is an error."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.found: dict[str, str] = {}

    def add_all(self, value: Any) -> None:
        """Add what a column of attributes holds. Raises UnreadableError when it is no object."""
        if isinstance(value, str):
            value = _parsed(value)
        pairs = _pairs(value)
        if pairs is None:
            raise UnreadableError("holds no attributes by name", _REMEDY)
        for name, one in pairs:
            self.add(name, one)

    def add(self, name: str, value: Any) -> None:
        """Add one attribute; what is inside an object gets a path for a name (a.b)."""
        for path, one in _flat(name, value, _DEPTH):
            said = self._text(one)
            if said is None:
                continue
            if self.found.setdefault(path, said) != said:
                raise UnreadableError(f"gives the attribute {path!r} twice", _REMEDY)

    def _text(self, value: Any) -> str | None:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list):
            said = [one for one in map(self._text, value) if one is not None]
            return ", ".join(said) or None
        value = self.reading.shown(value)
        return None if self.reading.is_null(value, ATTRIBUTE_NULLS) else as_text(value) or None


def _parsed(text: str) -> Any:
    """A cell that holds a JSON object."""
    try:
        return strict_json.decode(text)
    except (ValueError, RecursionError):
        return None


def _pairs(value: Any) -> list[tuple[str, Any]] | None:
    """The names and values of an object, of a map (pairs) and of a list of objects of name and value."""
    if isinstance(value, dict):
        return list(value.items())
    if not isinstance(value, list):
        return None
    if all(isinstance(one, tuple) for one in value):
        return _together([(as_text(name), one) for name, one in value])
    if all(isinstance(one, dict) and set(one) in _NAMED for one in value):
        return _together([(as_text(one["name"] if "name" in one else one["key"]), one["value"]) for one in value])
    return None


def _together(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Values of one name as a list."""
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        if value not in found.setdefault(name, []):
            found[name].append(value)
    return [(name, values[0] if len(values) == 1 else values) for name, values in found.items()]


def _flat(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if not depth:
        raise UnreadableError("is nested too deep", _REMEDY)
    if not isinstance(value, dict | list) or (isinstance(value, list) and not _holds_objects(value)):
        yield name, value
        return
    pairs = _pairs(value) if value else []
    if pairs is None:
        pairs = [(str(i), one) for i, one in enumerate(value)]
    for inner, one in pairs:
        yield from _flat(f"{name}.{inner}", one, depth - 1)


def _holds_objects(value: list[Any]) -> bool:
    return any(isinstance(one, dict | tuple) or (isinstance(one, list) and _holds_objects(one)) for one in value)
