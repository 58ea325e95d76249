"""Which items a search may answer, as typed fields instead of an expression: what a shopper ticks can't become code."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")]
Texts = Annotated[list[Text], Field(min_length=1, max_length=100)]
SignalName = Annotated[str, StringConstraints(pattern=r"^signal_[A-Za-z0-9_]{1,64}$")]
Bound = Annotated[float, Field(allow_inf_nan=False)]


class Range(BaseModel):
    """A closed interval; a side that is missing is open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: Bound | None = None
    max: Bound | None = None


class Filters(BaseModel):
    """All of them must hold. An item without the field does not match."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    brand: Text | Texts | None = Field(None, description="A brand, or any of several.")
    category: Text | Texts | None = Field(None, description="A category, or any of several.")
    price: Range | None = None
    signals: Annotated[dict[SignalName, Range], Field(max_length=20)] = Field(
        default_factory=dict, description="Ranges of quality signals, by their column's name."
    )


def expression(filters: Filters) -> str:
    """The same as an expression of Milvus; empty when nothing is asked for.

    Strings are quoted with the escapes that Milvus and Milvus Lite both read (`\\"` and `\\\\`); control characters,
    which they read differently, never pass the types above.
    """
    parts = [*_among("brand", filters.brand), *_among("category", filters.category)]
    for field, values in (("price", filters.price), *sorted(filters.signals.items())):
        parts += _between(field, values)
    return " and ".join(parts)


def _among(field: str, values: str | Sequence[str] | None) -> list[str]:
    if values is None:
        return []
    if isinstance(values, str):
        return [f"{field} == {_quoted(values)}"]
    return [f"{field} in [{', '.join(_quoted(value) for value in values)}]"]


def _between(field: str, values: Range | None) -> list[str]:
    if values is None:
        return []
    sides = ((">=", values.min), ("<=", values.max))
    return [f"{field} {sign} {float(value)!r}" for sign, value in sides if value is not None]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
