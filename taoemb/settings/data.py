"""Settings of data: splits and generated queries."""

from typing import Literal

from pydantic import Field

from taoemb.settings.section import Section


class SplitConfig(Section):
    """How queries are divided (near-duplicates stay on one side)."""

    valid: float = Field(0.1, ge=0, lt=1, description="Share of queries for choices made during development.")
    test: float = Field(0.2, ge=0, lt=1, description="Share of queries for the final numbers.")
    by: Literal["query", "template"] = Field(
        "query", description="`template`: test holds only queries of templates that train and valid never show."
    )
    seed: int = 0


class QueryGenerationConfig(Section):
    """Training queries made from a catalogue's own structure, for shops without a query log."""

    count: int = Field(6000, ge=1, description="Queries to generate.")
    graded_per_query: int = Field(12, ge=1, description="Rule-graded items kept per query (they train a judge).")
    max_positives: int = Field(8, ge=1, description="Grade-4 items kept as pairs per query.")
    max_known: int = Field(
        1000, ge=0, description="Further grade-4 items kept as pairs of weight 0: never positives, never negatives."
    )
    seed: int = 0
