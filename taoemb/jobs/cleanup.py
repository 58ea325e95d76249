"""What a pipeline run takes away at its end, well or not: its jobs on the cluster, and trainings left behind."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from taoemb.config import JobConfig
from taoemb.errors import TaoembError
from taoemb.jobs.manifest import RUN_LABEL, TRAIN_JOBS
from taoemb.serving.kube import Missing

_TRAINING = re.compile(r"[a-z_]+-[0-9a-f]{16}")
_DAY_S = 24 * 3600


def clean_up(workspace: str, keep_days: float, job: JobConfig, run: str) -> Iterator[str]:
    """Delete the TrainJobs of pipeline run `run`, and training folders untouched for `keep_days`; a line for each.

    What can't be deleted is said and left: a run does not fail for its cleaning.
    """
    if job.backend == "trainjob" and run:
        yield from _jobs(job, run)
    if workspace:
        yield from _folders(Path(workspace), keep_days)


def _jobs(job: JobConfig, run: str) -> Iterator[str]:
    from taoemb.serving.kube import connect, own_namespace

    namespace = job.namespace or own_namespace()
    try:
        objects = connect()
        for found in objects.list(TRAIN_JOBS, namespace, f"{RUN_LABEL}={run}"):
            name = found["metadata"]["name"]
            try:
                objects.delete(TRAIN_JOBS, namespace, name)
            except Missing:
                continue
            yield f"deleted TrainJob {namespace}/{name}"
    except TaoembError as error:
        yield f"TrainJobs of this run may be left: {error}"


def _folders(workspace: Path, keep_days: float) -> Iterator[str]:
    for folder in sorted(workspace.glob("*")):
        if not (folder.is_dir() and _TRAINING.fullmatch(folder.name)):
            continue
        touched = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
        if time.time() - touched > keep_days * _DAY_S:
            shutil.rmtree(folder, ignore_errors=True)
            yield f"deleted {folder}, untouched for more than {keep_days:g} days"
