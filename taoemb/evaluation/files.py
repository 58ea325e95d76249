"""Writes what an evaluation found: tables for programs, rankings for audits, the report for people."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taoemb.evaluation import summary
from taoemb.evaluation.gate import EVALUATION_FILE
from taoemb.evaluation.measured import Measured
from taoemb.evaluation.report import render

METRICS_FILE, REPORT_FILE = "metrics.json", "report.html"
QUERIES_AT_ONCE = 512
RUN = pa.schema(
    [
        ("system", pa.dictionary(pa.int32(), pa.string())),
        ("query_id", pa.string()),
        ("item_id", pa.string()),
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("grade", pa.int8()),
    ]
)


def write_all(folder: Path, evaluation: Mapping[str, Any], measured: Measured) -> None:
    """Write metrics.json, evaluation.json, per_query.parquet, run.parquet and report.html into `folder`."""
    own = evaluation["systems"][evaluation["subject"]]
    _write_json(folder / METRICS_FILE, summary.contract(own["metrics"]), indent=2)
    _write_json(folder / EVALUATION_FILE, evaluation)
    pq.write_table(_per_query(measured), folder / "per_query.parquet", compression="zstd")
    _write_run(folder / "run.parquet", measured, evaluation["config"]["evaluation"]["run_depth"])
    (folder / REPORT_FILE).write_text(render(evaluation, measured), encoding="utf-8")


def _write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _per_query(measured: Measured) -> pa.Table:
    """One row a system and query: system, query_id, and a column a metric (null where undefined)."""
    ids = [measured.data.queries.ids[row] for row in measured.query_rows]
    parts = []
    for name, values in measured.values.items():
        columns = {"system": pa.array([name] * len(ids)), "query_id": pa.array(ids, pa.string())}
        columns |= {metric: pa.array(column, from_pandas=True) for metric, column in values.items()}
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def _write_run(path: Path, measured: Measured, depth: int) -> None:
    with pq.ParquetWriter(path, RUN, compression="zstd") as writer:
        for name in measured.rankings:
            for start in range(0, len(measured.query_rows), QUERIES_AT_ONCE):
                part = slice(start, start + QUERIES_AT_ONCE)
                writer.write_table(_run_part(name, measured, part, depth))


def _run_part(name: str, measured: Measured, part: slice, depth: int) -> pa.Table:
    ranking = measured.rankings[name]
    rows_QK = ranking.rows_QK[part, :depth]
    kept_QK = rows_QK >= 0
    of_query, place = np.nonzero(kept_QK)
    query_rows = measured.query_rows[part][of_query]
    rows, scores = rows_QK[kept_QK], ranking.scores_QK[part, :depth][kept_QK]
    grades = measured.grades(name, part, depth)[kept_QK]
    columns = [
        pa.array([name] * len(rows), pa.string()).dictionary_encode(),
        pa.array([measured.data.queries.ids[row] for row in query_rows], pa.string()),
        pa.array(measured.data.items.ids_of(rows), pa.string()),
        pa.array(place + 1, pa.int32()),
        pa.array(scores, pa.float32(), from_pandas=True),
        pa.array(grades, pa.int8(), mask=grades == 0),
    ]
    return pa.table(columns, schema=RUN)
