"""The process in which kfp.local runs a compiled pipeline; it reads a job as JSON from standard input.

kfp.local keeps global state, swaps `print` and the root logger, and streams every step's output through its own
standard output. In a process of its own that does no harm, its output is one stream to read, and the whole tree of
steps can be stopped as one process group.
"""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml

from taoemb.config import prepare_pipeline_environment
from taoemb.jobs.pipelines import read_spec


def run(job: dict[str, Any]) -> None:
    """Run `job["file"]` with `job["arguments"]`; steps write below `job["root"]`, temporary files to `job["temp"]`."""
    prepare_pipeline_environment(job["temp"])
    warnings.simplefilter("ignore")  # about settings that only a cluster reads
    from kfp import components, local

    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s - %(levelname)s - %(message)s")
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=job["root"],
        workspace_root=job["workspace"],
        enable_caching=True,
    )
    components.load_component_from_text(_without_retries(Path(job["file"])))(**job["arguments"])


def _without_retries(file: Path) -> str:
    """Retries are for evicted pods and lost nodes: here a step that failed would fail again, after a long wait."""
    documents = read_spec(file)
    spec = documents[0]
    for dag in [spec["root"]["dag"], *(entry["dag"] for entry in spec["components"].values() if "dag" in entry)]:
        for task in dag["tasks"].values():
            task.pop("retryPolicy", None)
    return yaml.safe_dump_all(documents, sort_keys=False)


if __name__ == "__main__":
    run(json.load(sys.stdin))
