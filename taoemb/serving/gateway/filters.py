"""Which items a search may answer, as typed fields instead of an expression: what a shopper ticks can't become code."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from taoemb.limits import BRAND_BYTES, CATEGORY_BYTES, ID, SIGNAL_NAME, cut
from taoemb.retrieval.expressions import all_of, among, between, equals

_ONE_LINE = f"^{ID.pattern}$"  # the store keeps brands and categories without control characters
Brand = Annotated[str, StringConstraints(min_length=1, max_length=BRAND_BYTES, pattern=_ONE_LINE)]
Category = Annotated[str, StringConstraints(min_length=1, max_length=CATEGORY_BYTES, pattern=_ONE_LINE)]
Brands = Annotated[list[Brand], Field(min_length=1, max_length=100)]
Categories = Annotated[list[Category], Field(min_length=1, max_length=100)]
SignalName = Annotated[str, StringConstraints(pattern=f"^{SIGNAL_NAME}$")]
Bound = Annotated[float, Field(allow_inf_nan=False)]


class Range(BaseModel):
    """A closed interval; a side that is missing is open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: Bound | None = None
    max: Bound | None = None


class Filters(BaseModel):
    """All of them must hold. An item without the field does not match."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    brand: Brand | Brands | None = Field(None, description="A brand, or any of several.")
    category: Category | Categories | None = Field(None, description="A category, or any of several.")
    price: Range | None = None
    signals: Annotated[dict[SignalName, Range], Field(max_length=20)] = Field(
        default_factory=dict, description="Ranges of quality signals, by their column's name."
    )


def expression(filters: Filters) -> str:
    """The same as an expression of Milvus; empty when nothing is asked for.

    A brand or category is compared as the store keeps it: cut to the store's length.
    """
    parts = [*_among("brand", filters.brand, BRAND_BYTES), *_among("category", filters.category, CATEGORY_BYTES)]
    for field, values in (("price", filters.price), *sorted(filters.signals.items())):
        if values is not None:
            parts += between(field, values.min, values.max)
    return all_of(parts)


def _among(field: str, values: str | Sequence[str] | None, limit: int) -> list[str]:
    if values is None:
        return []
    if isinstance(values, str):
        return [equals(field, cut(values, limit))]
    return [among(field, [cut(value, limit) for value in values])]
