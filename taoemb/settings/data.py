"""Settings of data: splits and generated queries."""

import re
from typing import Literal

from pydantic import Field, field_validator

from taoemb.settings.section import Section


class SplitConfig(Section):
    """How queries are divided (near-duplicates stay on one side)."""

    valid: float = Field(0.1, ge=0, lt=1, description="Share of queries for choices made during development.")
    test: float = Field(0.2, ge=0, lt=1, description="Share of queries for the final numbers.")
    by: Literal["query", "template"] = Field(
        "query", description="`template`: test holds only queries of templates that train and valid never show."
    )
    seed: int = 0


QUERY_KINDS = {
    "type": 0.22,
    "brand": 0.02,
    "brand-type": 0.15,
    "attribute": 0.18,
    "brand-attribute": 0.07,
    "series": 0.08,
    "model": 0.06,
    "compatible": 0.09,
    "title": 0.07,
    "feature": 0.03,
    "negation": 0.03,
}
"""Most of what people type is short: a product word alone, a brand, two words. A catalogue holds few product words, so
that they are tried often."""


class QueryGenerationConfig(Section):
    """Training queries made from a catalogue's own structure, for shops without a query log."""

    count: int = Field(6000, ge=1, description="Queries to generate.")
    language: str = Field(
        "auto",
        description="Language of the titles, a code (`en`, `de`, `ja`); `auto`: read from them. Only English has "
        "word lists that put words into queries; in other languages they hold the catalogue's own words alone.",
    )
    kinds: dict[str, float] = Field(QUERY_KINDS, description="How often each kind of query is tried; 0: never.")
    graded_per_query: int = Field(12, ge=1, description="Rule-graded items kept per query (they train a judge).")
    max_positives: int = Field(8, ge=1, description="Grade-4 items kept as pairs per query.")
    max_known: int = Field(
        1000, ge=0, description="Further grade-4 items kept as pairs of weight 0: never positives, never negatives."
    )
    seed: int = 0

    @field_validator("language")
    @classmethod
    def _language_is_a_code(cls, language: str) -> str:
        if not re.fullmatch(r"auto|[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", language):
            raise ValueError(f"must be auto or a language code such as en, de, ja or zh-TW, not {language!r}")
        return language

    @field_validator("kinds")
    @classmethod
    def _kinds_are_known(cls, kinds: dict[str, float]) -> dict[str, float]:
        """Those that are not given keep their share."""
        if unknown := sorted(set(kinds) - set(QUERY_KINDS)):
            raise ValueError(f"no such kind {unknown[0]!r}; there are {', '.join(QUERY_KINDS)}")
        merged = QUERY_KINDS | kinds
        if min(merged.values()) < 0 or not any(merged.values()):
            raise ValueError("shares must not be negative, nor all 0")
        return merged
