"""Which column of a file feeds which field of the contract: what --map says, else the column of the field's own name.

A mapping line is `field=column`, where the field is a column of the contract (`title`, `signal_rating`, …) or an
attribute (`attributes.colour`); in front of it may stand the table that it is for (`judgments.item_id=sku`). Where
objects are nested, a column may be a path (`name.en`, `category.0`). A name is found in another case too when only one
column has it so.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from taoemb.data.schemas import REQUIRED, SCHEMAS, SIGNAL_PREFIX
from taoemb.errors import InputError

ATTRIBUTE = "attributes."
Named = Mapping[tuple[str | None, str], str]


def parse_mapping(lines: Collection[str]) -> dict[tuple[str | None, str], str]:
    """(table or None, field) → column, "" for a field that is left out.

    Raises InputError on a line that is not `field=column` of a known field.
    """
    mapping: dict[tuple[str | None, str], str] = {}
    for line in lines:
        key, equals, column = line.partition("=")
        front, dot, rest = key.partition(".")
        table, field = (front, rest) if dot and front in SCHEMAS else (None, key)
        tables = [name for name in SCHEMAS if table in (None, name) and _takes(name, field)]
        if not equals or not tables or (not column and any(field in REQUIRED[name] for name in tables)):
            raise InputError(f"--map {line!r}: expected FIELD=COLUMN, e.g. title=name or attributes.colour=Colour")
        if mapping.setdefault((table, field), column) != column:
            raise InputError(f"--map {line!r}: {key} has another column already; name one")
    return mapping


def _takes(table: str, field: str) -> bool:
    extra = field.startswith((ATTRIBUTE, SIGNAL_PREFIX)) and field not in (ATTRIBUTE, SIGNAL_PREFIX)
    return field in SCHEMAS[table].names or (table == "items" and extra)


class Columns:
    """The fields of one table, each with the column of the file that feeds it."""

    def __init__(self, table: str, mapping: Named) -> None:
        self.table = table
        self.named = {
            field: column for (name, field), column in mapping.items() if name is None and _takes(table, field)
        }
        self.named |= {field: column for (name, field), column in mapping.items() if name == table}

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether a flat file with these columns has what the table must have."""
        return all(self._find(field, columns, False) for field in REQUIRED[self.table])

    def settle(self, path: Path, columns: Sequence[str], nested: bool) -> dict[str, str]:
        """Field → column, for all fields that the file has.

        Raises InputError when a required one is missing, or a name could be several columns.
        """
        wanted = [*SCHEMAS[self.table].names, *self.named]
        wanted += [name for name in columns if name not in wanted and _takes(self.table, name)]
        found: dict[str, str] = {}
        for field in dict.fromkeys(wanted):
            among = self._find(field, columns, nested)
            if len(among) > 1:
                names = " or ".join(map(repr, among))
                raise InputError(f"{path}: {field} could be {names}; say which with --map {field}=COLUMN")
            found |= dict.fromkeys([field], among[0]) if among else {}
        for field in REQUIRED[self.table]:
            if field not in found:
                raise InputError(
                    f"{path}: has no column {self.named.get(field, field)!r} for {field}; "
                    f"use --map {field}=COLUMN (it has {_listed(columns)})"
                )
        holder = found.get("attributes")
        if "attributes" not in self.named and holder in [one for name, one in found.items() if name != "attributes"]:
            found.pop("attributes", None)  # another field takes the column
        return found

    def _find(self, field: str, columns: Sequence[str], nested: bool) -> list[str]:
        """The column of a field, several where its name could be any of them.

        It is the column of the field's own name where the mapped one is another file's.
        """
        named = self.named.get(field, field)
        for name in dict.fromkeys([named, field] if named else []):
            if name in columns or (nested and name == named != field and _head(name, columns)):
                return [name]
            alike = {one for one in columns if one.strip().casefold() == name.strip().casefold()}
            if alike:
                return sorted(alike)
        return []


def _head(path: str, columns: Sequence[str]) -> bool:
    """Whether a path (a.b) leads into a column."""
    return any(path.startswith(f"{column}.") for column in columns)


def refuse_twice(path: Path, columns: Sequence[str], used: Collection[str]) -> None:
    """Raise InputError when a header repeats one of the names that are used."""
    for name, count in Counter(columns).items():
        if count > 1 and name in used and name:
            places = ", ".join(str(i) for i, one in enumerate(columns, 1) if one == name)
            raise InputError(f"{path}: the header has {name!r} more than once (columns {places}); rename one")


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(map(repr, columns[:20])) or "none"
    return shown + (f" and {len(columns) - 20} more" if len(columns) > 20 else "")


def lookup(row: Any, path: str) -> Any:
    """What stands at a path (a.b, a.0) in nested objects and lists; None where nothing does."""
    if isinstance(row, dict) and path in row:
        return row[path]
    at = path.find(".")
    while at >= 0:
        head, tail = path[:at], path[at + 1 :]
        if isinstance(row, dict) and head in row:
            found = lookup(row[head], tail)
            if found is not None:
                return found
        at = path.find(".", at + 1)
    if isinstance(row, list):
        return _entry(row, path)
    return None


def _entry(values: list[Any], path: str) -> Any:
    """An entry of a list by its number, of a map (pairs) by its key."""
    if all(isinstance(one, tuple) for one in values):
        return lookup(dict(values), path)
    head, _, tail = path.partition(".")
    if not head.lstrip("-").isdecimal() or not -len(values) <= int(head) < len(values):
        return None
    return lookup(values[int(head)], tail) if tail else values[int(head)]
