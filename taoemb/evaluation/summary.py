"""From one value a query to the tables that are written and read: metric → slice → mean, interval, queries."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from taoemb.config import EvaluationConfig
from taoemb.data.dataset import Dataset
from taoemb.evaluation.bootstrap import Estimate, intervals
from taoemb.evaluation.qrels import Qrels

Values = Mapping[str, np.ndarray]  # metric → (Q,), nan where undefined
Masks = Mapping[str, np.ndarray]  # slice → (Q,) bool
Table = dict[str, dict[str, dict[str, Any]]]


def means(values: Values, masks: Masks, config: EvaluationConfig) -> Table:
    """metric → slice → {value, low, high, queries}; left out where no query of the slice has a value."""
    return _table(values, masks, config, test=False)


def differences(values: Values, baseline: Values, masks: Masks, config: EvaluationConfig) -> Table:
    """metric → slice → {value, low, high, queries, p} of `values` − `baseline`, paired query by query."""
    both = {name: column - baseline[name] for name, column in values.items() if name in baseline}
    return _table(both, masks, config, test=True)


def contract(table: Table) -> dict[str, dict[str, dict[str, Any]]]:
    """The layout of metrics.json: metric → slice → {value, interval: [low, high], queries}."""
    return {
        metric: {
            name: {"value": cell["value"], "interval": [cell["low"], cell["high"]], "queries": cell["queries"]}
            for name, cell in slices.items()
        }
        for metric, slices in table.items()
    }


def dataset_facts(data: Dataset, qrels: Qrels, query_rows: np.ndarray, masks: Masks) -> dict[str, Any]:
    """Counts that say how much the numbers rest on."""
    sources = set() if data.judgments is None else set(data.judgments.sources)
    per_query = np.diff(qrels.indptr)
    return {
        "path": str(data.root),
        "items": len(data.items),
        "queries": len(data.queries),
        "evaluated_queries": len(query_rows),
        "judgments": len(qrels.grades),
        "conflicting_judgments": 0 if data.judgments is None else data.judgments.conflicting,
        "judgments_per_query_median": float(np.median(per_query)) if len(per_query) else 0.0,
        "grades": {str(grade): int((qrels.grades == grade).sum()) for grade in (4, 3, 2, 1)},
        "sources": sorted(source for source in sources if source),
        "slices": {name: int(mask.sum()) for name, mask in masks.items()},
    }


def _table(values: Values, masks: Masks, config: EvaluationConfig, *, test: bool) -> Table:
    table: Table = {name: {} for name in values}
    columns_QM = np.stack(list(values.values()), axis=1)
    for name, mask in masks.items():
        found = intervals(
            columns_QM[mask], resamples=config.bootstrap, confidence=config.confidence, seed=config.seed, test=test
        )
        for metric, estimate in zip(table, found, strict=True):
            if estimate is not None:
                table[metric][name] = _cell(estimate)
    return {metric: slices for metric, slices in table.items() if slices}


def _cell(estimate: Estimate) -> dict[str, Any]:
    cell = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "queries": estimate.queries}
    return cell if estimate.p is None else cell | {"p": estimate.p}
