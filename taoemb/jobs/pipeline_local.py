"""Run a compiled pipeline on this machine, step by step, into one folder that can be run again.

OUT holds the pipeline's outputs under their own names, `logs/` a file a step, `steps/` what the steps wrote,
`work/` what an interrupted step continues from, and `run.json` what was run. A second run into the same folder
reuses each finished step whose component and inputs are the same.
"""

import contextlib
import fcntl
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taoemb.errors import InputError, TaoembError
from taoemb.jobs.pipeline_record import Follower, LocalRun, failure, hand_out
from taoemb.jobs.pipeline_stop import stop
from taoemb.jobs.pipelines import Pipeline, require_arguments
from taoemb.jobs.steps import settings_from

LOCAL_DEFAULTS = {"workspace": "work", "milvus_uri": "milvus.db"}
"""Parameters that, left empty, are given a place in the run's own folder."""


class StepFailed(TaoembError):
    """A step failed; the message names it, its last line and its log. `run` holds what there is all the same."""

    def __init__(self, message: str, run: LocalRun) -> None:
        super().__init__(message)
        self.run = run
        self.step = next((step.name for step in run.steps if step.state == "failed"), "")


def run_local(pipeline: Pipeline, arguments: Mapping[str, Any], out: Path, *, fresh: bool = False) -> LocalRun:
    """Run `pipeline` with kfp.local; `fresh` forgets what `out` holds of earlier runs.

    Outputs are linked into `out` even when a later step fails. Raises StepFailed naming the step and its log.
    """
    arguments = _with_local_places(pipeline, arguments, out)
    require_arguments(pipeline, arguments)
    with _claim(out, pipeline, fresh):
        run = LocalRun(out)
        record = {"pipeline": pipeline.name, "file": str(pipeline.path), "arguments": arguments, "started": _now()}
        _write_json(out / "run.json", {**record, "state": "running"})
        state = "failed"
        try:
            code = _execute(pipeline, arguments, run)
            state = "done" if code == 0 else "failed"
        except (KeyboardInterrupt, SystemExit):
            state = "interrupted"
            raise
        finally:
            hand_out(pipeline, run)
            steps = [asdict(step) for step in run.steps]
            ended = {"state": state, "ended": _now(), "steps": steps, "outputs": run.outputs}
            _write_json(out / "run.json", {**record, **ended})
    if code != 0:
        raise StepFailed(failure(run, code), run)
    return run


def _with_local_places(pipeline: Pipeline, arguments: Mapping[str, Any], out: Path) -> dict[str, Any]:
    chosen = dict(arguments)
    settled = {"uri"} & settings_from(chosen.get("settings", "")).milvus.model_fields_set
    for name, place in LOCAL_DEFAULTS.items():
        wanted = name in pipeline.parameters and not (name == "milvus_uri" and settled)
        if wanted and pipeline.parameters[name].default == "":
            chosen.setdefault(name, str((out / place).resolve()))
    return chosen


@contextlib.contextmanager
def _claim(out: Path, pipeline: Pipeline, fresh: bool) -> Iterator[None]:
    record = out / "run.json"
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: not a folder")
    if out.is_dir() and any(file.name != ".lock" for file in out.iterdir()) and not record.is_file():
        raise InputError(f"--out {out}: holds other files and no earlier run; choose an empty folder")
    if record.is_file() and (earlier := json.loads(record.read_text()).get("pipeline")) != pipeline.name:
        raise InputError(f"--out {out}: holds a run of {earlier or 'something else'}, not of {pipeline.name}")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TaoembError(f"--out {out}: another run is using this folder") from None
        if fresh:
            for name in ("steps", "work", "logs"):
                shutil.rmtree(out / name, ignore_errors=True)
        yield


def _execute(pipeline: Pipeline, arguments: Mapping[str, Any], run: LocalRun) -> int:
    """Run all steps in a process group of their own; returns the exit code."""
    run.log.parent.mkdir(exist_ok=True)
    temp = tempfile.mkdtemp(prefix="taoemb-")  # short: sockets are made below it
    job = {
        "file": str(pipeline.path.resolve()),
        "arguments": arguments,
        "root": str((run.out / "steps").resolve()),
        "workspace": f"{temp}/workspace",
        "temp": temp,
    }
    try:
        with _terminable(), run.log.open("w", encoding="utf-8") as log, _worker() as worker:
            try:
                assert worker.stdin is not None
                assert worker.stdout is not None
                with worker.stdin as stdin:
                    json.dump(job, stdin)
                Follower(pipeline, run, log).follow(worker.stdout)
                if worker.wait() < 0:
                    stop(worker)  # it was killed; its step was not
                return worker.returncode
            except BaseException:
                stop(worker)
                raise
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _worker() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "taoemb.jobs.pipeline_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that the steps are stopped too."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    draft.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
