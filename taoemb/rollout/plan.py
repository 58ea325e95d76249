"""The plan of a rollout: steps, what must hold at each, what ends it. A YAML file, or the spec of an EncoderRollout.

Read docs/rollout.md for what each part means for the verdict.
"""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from taoemb.errors import InputError
from taoemb.rollout.patterns import query_pattern
from taoemb.serving.traffic import Design
from taoemb.settings.yaml_text import read_yaml

MetricName = Literal[
    "query_goodrate",
    "item_goodrate",
    "gsb",
    "ndcg",
    "empty_rate",
    "error_rate",
    "bm25_overlap",
    "latency_ms",
    "click_rate",
    "cart_rate",
    "conversion_rate",
    "preference",
]
ALL = "all"
"""The slice of every query."""
LOWER_IS_BETTER: frozenset[str] = frozenset({"empty_rate", "error_rate", "bm25_overlap", "latency_ms"})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Step(_Part):
    """A share of traffic, and how long it is held at least."""

    percent: float = Field(gt=0, le=100, description="The candidate's share of the units.")
    min_units: int = Field(200, ge=1, description="Graded units of both arms together before the next step.")
    min_seconds: float = Field(0, ge=0, description="Time in this step before the next one.")


class Guardrail(_Part):
    """A metric that the candidate must not worsen by more than a margin."""

    metric: MetricName
    slice: str = Field(
        "all", description="A slice; `*`: all queries and every slice that is no category; `category:*`: these."
    )
    margin: float = Field(ge=0, description="In the metric's own units; towards worse.")


class SliceRule(_Part):
    """Queries that match a regular expression (RE2, case-insensitive) make a slice."""

    name: str = Field(min_length=1)
    pattern: str

    @model_validator(mode="after")
    def _can_match(self) -> "SliceRule":
        if self.name == ALL:
            raise ValueError("the slice `all` is every query; choose another name")
        if "*" in self.name:
            raise ValueError(f"{self.name!r}: a slice's name holds no *, which guardrails use for several slices")
        try:
            query_pattern(self.pattern)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        return self


class Plan(_Part):
    """How a candidate becomes the control, or does not."""

    steps: tuple[Step, ...] = (Step(percent=1), Step(percent=5), Step(percent=25), Step(percent=50))
    design: Design = "ab"
    metric: MetricName = Field("item_goodrate", description="What decides.")
    goal: Literal["superiority", "non-inferiority"] = "superiority"
    margin: float = Field(
        0.0, ge=0, description="Non-inferiority: how much worse is good enough. Superiority: the least gain asked for."
    )
    guardrails: tuple[Guardrail, ...] = (
        Guardrail(metric="error_rate", margin=0.01),
        Guardrail(metric="empty_rate", margin=0.02),
        Guardrail(metric="item_goodrate", slice="*", margin=0.1),
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Probability of promoting a candidate that meets no goal.")
    harm_alpha: float = Field(
        0.05, gt=0, lt=0.5, description="Probability of rolling back one that harms nothing, over all checks."
    )
    sample_ratio_alpha: float = Field(0.001, gt=0, lt=0.5, description="Of the sample-ratio-mismatch check.")
    min_slice_units: int = Field(50, ge=1, description="Slices with fewer graded units are shown, not judged.")
    max_unanswered: float = Field(
        0.2, ge=0, le=1, description="Share of sampled pages without grades above which nothing is decided."
    )
    depth: int = Field(10, ge=1, le=100, description="Places of a page that are graded.")
    good_relevance: float = Field(
        0.6, ge=0, le=1, description="Relevance from which an item counts as good (rewards.gate has the same scale)."
    )
    sample: float = Field(1.0, gt=0, le=1, description="Share of the units that are graded, drawn by hash.")
    pages_a_look: int = Field(500, ge=1, description="Most pages graded between two looks: the judge's budget.")
    slices: tuple[SliceRule, ...] = ()
    slice_queries: Path | None = Field(
        None, description="Dataset folder whose queries.parquet names slices of queries."
    )
    catalogue: Path | None = Field(None, description="Dataset folder for the BM25 route (metric bm25_overlap).")
    history: Path | None = Field(None, description="Parquet of earlier values (unit, value) for CUPED.")
    human: Path | None = Field(
        None,
        description="Dataset folder where people's judgments come in; they correct the judge's (see human_share).",
    )
    human_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="With `human`: part of the graded pages that people grade too, by hash; metrics wait for them.",
    )
    event_window_s: float = Field(
        1800, gt=0, description="Clicks, carts and purchases count so long after their page; younger pages wait."
    )
    look_every_s: float = Field(60, gt=0, description="Time between two looks.")
    step_timeout_s: float = Field(7 * 86400, gt=0, description="A step that lasts longer ends the rollout.")
    ready_timeout_s: float = Field(1800, gt=0, description="How long the candidate may take to become ready.")
    on_inconclusive: Literal["rollback", "hold"] = Field(
        "rollback", description="What becomes of the traffic when no verdict was reached in time."
    )

    @model_validator(mode="after")
    def _steps_grow(self) -> "Plan":
        percents = [step.percent for step in self.steps]
        if not percents or percents != sorted(set(percents)):
            raise ValueError(f"steps: percent must grow from step to step (got {percents})")
        if self.design == "interleaving" and self.metric != "preference":
            raise ValueError("design interleaving: its metric is preference")
        if self.design == "ab" and self.metric == "preference":
            raise ValueError("metric preference needs design interleaving")
        if self.design == "ab" and percents[-1] == 100:
            raise ValueError("steps: 100 % leaves no control to compare with; end lower, the promotion gives all")
        decisive = {self.metric, *(guardrail.metric for guardrail in self.guardrails)}
        if "bm25_overlap" in decisive and self.catalogue is None:
            raise ValueError("metric bm25_overlap needs a catalogue")
        return self

    @model_validator(mode="after")
    def _slices_are_told_apart(self) -> "Plan":
        names = [rule.name for rule in self.slices]
        twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
        if twice is not None:
            raise ValueError(f"slices: two have the name {twice!r}")
        if self.slice_queries is None:
            check_guarded(self, names)
        return self


def check_guarded(plan: Plan, names: Collection[str]) -> None:
    """Raise ValueError when a guardrail names a slice that is not among `names`: it would never guard anything."""
    for at, guardrail in enumerate(plan.guardrails):
        wanted = guardrail.slice
        if not any(fnmatchcase(name, wanted) if "*" in wanted else name == wanted for name in (ALL, *names)):
            there = ", ".join([ALL, *names][:20])
            more = f" and {len(names) - 19} more" if len(names) > 19 else ""
            raise ValueError(f"guardrails.{at}.slice: no slice {wanted!r}; there are {there}{more}")


BACK = Plan(metric="error_rate", goal="non-inferiority", margin=0.01, guardrails=())
"""Of a way back that a person decided: it needs no judge."""


def load_plan(path: Path) -> Plan:
    """Read a plan. Raises InputError with the file, the key and what is wrong."""
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--plan {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--plan {path}: not YAML: {' '.join(str(error).split())}") from None
    return parse_plan({} if tree is None else tree, f"--plan {path}")


def parse_plan(tree: Any, where: str) -> Plan:
    """A plan from its JSON form; `where` names its place in errors. Raises InputError."""
    if not isinstance(tree, Mapping):
        raise InputError(f"{where}: expected a mapping, found a {type(tree).__name__}")
    try:
        return Plan.model_validate(dict(tree))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "plan"
        raise InputError(f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}") from None
