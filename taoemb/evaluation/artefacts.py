"""What a pipeline step shows of an evaluation: scalars for Kubeflow's metric view, the page for its HTML view."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taoemb.errors import InputError
from taoemb.evaluation.files import REPORT_FILE
from taoemb.evaluation.slices import ALL


def scalars(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The subject's metrics on all queries ("goodrate_at_10"), and their differences ("goodrate_at_10_gain")."""
    found: dict[str, float] = {}
    for suffix, table in (
        ("", evaluation["systems"][evaluation["subject"]]["metrics"]),
        ("_gain", evaluation["differences"] or {}),
    ):
        found |= {_plain(metric) + suffix: slices[ALL]["value"] for metric, slices in table.items() if ALL in slices}
    return found


def html(folder: Path) -> str:
    """The report in `folder`. Raises InputError when it is not there."""
    try:
        return (folder / REPORT_FILE).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder / REPORT_FILE}: {error.strerror or error}; run `taoemb evaluate` first") from None


def _plain(metric: str) -> str:
    return re.sub(r"\W", "_", metric.replace("@", "_at_"))
