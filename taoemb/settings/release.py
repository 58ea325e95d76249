"""Settings of the vector store, of evaluation and of the gate."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from taoemb.settings.section import Section

CutOff = Annotated[int, Field(ge=1)]


class MilvusConfig(Section):
    """The vector store."""

    uri: str = Field("milvus.db", description="A Milvus Lite file, or http(s)://host:19530.")
    token_file: Path | None = Field(None, description="File that holds the token (a mounted Secret).")
    alias: str = Field("taoemb", description="The alias that search uses; it moves atomically.")
    prefix: str = Field("taoemb", description="Collections are named {prefix}_{digest}.")
    index: Literal["HNSW", "FLAT", "IVF_FLAT"] = "HNSW"
    hnsw_m: int = Field(16, ge=4)
    hnsw_ef_construction: int = Field(200, ge=8)
    search_ef: int = Field(128, ge=1)
    batch: int = Field(1000, ge=1, description="Rows in one upsert.")
    spot_queries: int = Field(50, ge=1, description="Exact searches compared before the alias moves.")
    min_recall: float = Field(
        0.95, ge=0, le=1, description="Spot recall@10 against exact search below which publishing fails."
    )
    spot_items: int = Field(200_000, ge=1, description="Stored vectors that these exact searches read at most.")
    max_removed: float = Field(
        0.5, ge=0, le=1, description="Share of a collection's items that one publish may remove (a wrong --data?)."
    )
    bulk_rows: int = Field(250_000, ge=1, description="Items in one Parquet shard of a bulk import.")
    bulk_remote: str | None = Field(
        None, description="Where the bulk folder lies in the bucket that Milvus imports from; empty: its root."
    )
    bulk_url: str | None = Field(None, description="Milvus' REST address, where it is not the same as `uri`.")


class EvaluationConfig(Section):
    """Offline metrics and the gate."""

    hitrate: tuple[CutOff, ...] = (10, 100, 1000)
    recall: tuple[CutOff, ...] = (10, 100)
    ndcg: tuple[CutOff, ...] = (10,)
    goodrate: tuple[CutOff, ...] = (10, 100)
    mrr: tuple[CutOff, ...] = (10,)
    good_grade: int = Field(3, ge=1, le=4, description="Grades from this on are good: Goodrate, Recall, MRR, bpref.")
    relevant_grade: int = Field(4, ge=1, le=4, description="Grades from this on are ground truth for Hitrate.")
    judge_depth: int = Field(10, ge=1, description="Deepest place that the held-out judge is asked about.")
    judge_queries: int = Field(500, ge=1, description="Most queries that it is asked about, drawn by seed.")
    template_slices: bool = Field(False, description="Also report slices named template:… (generated queries).")
    run_depth: int = Field(100, ge=1, description="Places of each ranking kept in run.parquet.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where encoders run; `auto`: a GPU if any.")
    bootstrap: int = Field(1000, ge=100, description="Resamples over queries.")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    seed: int = 0


class GateConfig(Section):
    """What a release must do to be published, against its baseline."""

    metric: str = Field("goodrate@10", description="The metric that must not fall.")
    margin: float = Field(0.02, ge=0, description="How far the interval's lower end may lie below the baseline.")
    require_gain: bool = Field(False, description="The interval must lie above the baseline.")
    guard_margin: float = Field(
        0.05, ge=0, description="How far any slice may fall (interval's upper end below minus this)."
    )
    min_queries: int = Field(20, ge=1, description="Slices with fewer queries are not judged.")
