"""Which rows a database would refuse for their content, told beforehand: the same rows for SQLite and PostgreSQL."""

import json
import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, String, Table

_INT: dict[type, int] = {Integer: 2**31, BigInteger: 2**63}


def problem(table: Table, row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row of `table` (its `number` is set later); None when it can be written."""
    unknown = sorted(set(row) - set(table.c.keys()) | set(row) & {"number"})
    if unknown:
        return f"no column {', '.join(unknown)} in {table.name}"
    for column in table.c:
        if column.name != "number":
            found = _problem_of(column, row.get(column.name))
            if found:
                return f"{table.name}.{column.name}: {found}"
    return None


def _problem_of(column: Column[Any], value: Any) -> str | None:
    if value is None:
        return None if column.nullable else "missing"
    kind = column.type
    if isinstance(kind, String):
        return _problem_of_text(value, kind.length)
    if isinstance(kind, JSON):
        return _problem_of_json(value)
    if isinstance(kind, Boolean):
        return None if isinstance(value, bool) else f"{value!r} is not true or false"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{str(value)[:40]!r} is not a number"
    if isinstance(kind, Double):
        return None if _is_finite(value) else "not a finite number"
    limit = _INT[type(kind)]
    return None if isinstance(value, int) and -limit <= value < limit else "not a whole number within range"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _problem_of_text(value: Any, length: int | None) -> str | None:
    if not isinstance(value, str):
        return f"{str(value)[:40]!r} is not text"
    if length is not None and len(value) > length:
        return f"{len(value)} characters, at most {length}"
    if "\0" in value:
        return "has a NUL character"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair"
    return None


def _problem_of_json(value: Any) -> str | None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"not JSON ({error})"
    return None
