"""What a local run leaves: its steps, read from kfp.local's stream as they happen, and the outputs they made."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from taoemb.jobs.pipeline_display import Display
from taoemb.jobs.pipelines import Pipeline, Step

_RECORD = re.compile(r"^[\d:.,\- ]+ - (?:INFO|ERROR|WARNING) - (.*)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"^Executing task '([^']+)'$")
_ENDED = re.compile(r"^Task '([^']+)' finished with status (SUCCESS|FAILURE)$")
_REUSED = re.compile(r"^Task (\S+) cache hit \(key=(\w+)\)")


@dataclass
class StepRun:
    """How one step went."""

    name: str
    title: str
    state: Literal["running", "done", "reused", "failed", "stopped"]
    seconds: float
    log: Path
    folder: Path | None = None  # where its artefacts stand; None when it has none


@dataclass
class LocalRun:
    """A run's folder, its steps in the order they ran, and the outputs that they left."""

    out: Path
    steps: list[StepRun] = field(default_factory=list)
    outputs: dict[str, Path] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """What kfp.local said of the run as a whole."""
        return self.out / "logs" / "pipeline.log"


class Follower:
    """Reads the worker's stream: which step runs, how it ended, and which log a line belongs to."""

    def __init__(self, pipeline: Pipeline, run: LocalRun, log: TextIO) -> None:
        self.run, self.log, self.step_log = run, log, log
        self.by_name = {step.name: step for step in pipeline.steps}
        self.by_task = {step.task: step for step in pipeline.steps}
        self.total = len(pipeline.steps)
        self.started = 0.0
        self.root = run.out / "steps"
        self.earlier = {folder.name for folder in self.root.glob("*")}

    def follow(self, lines: Iterable[str]) -> None:
        """Read to the end of the stream."""
        with Display(self.total) as self.display:
            try:
                for raw in lines:
                    self._read(raw.rstrip("\n"))
            finally:
                if self.run.steps and self.run.steps[-1].state == "running":
                    self._end("stopped")

    def _read(self, line: str) -> None:
        record = _RECORD.match(_COLOUR.sub("", line))
        if record is None:
            self._note(line)
        else:
            self.log.write(_COLOUR.sub("", line) + "\n")
            self._event(record.group(1))

    def _note(self, line: str) -> None:
        text = line.removeprefix("    ")
        self.step_log.write(text + "\n")
        self.step_log.flush()
        if not text.startswith(("[KFP Executor", " ", "{", "}", "-----")):
            self.display.note(_COLOUR.sub("", text))

    def _event(self, message: str) -> None:
        if started := _STARTED.match(message):
            self._begin(self.by_name[started.group(1)])
        elif ended := _ENDED.match(message):
            self._end("done" if ended.group(2) == "SUCCESS" else "failed")
        elif reused := _REUSED.match(message):
            self._reuse(self.by_task[reused.group(1)], reused.group(2))

    def _reuse(self, step: Step, key: str) -> None:
        entries = (json.loads(file.read_text()) for file in (self.root / ".kfp_cache").glob(f"{key}*.json"))
        kept = [value for entry in entries for value in entry.values() if isinstance(value, dict) and "uri" in value]
        folder = Path(kept[0]["uri"]).parent if kept else None
        self.run.steps.append(StepRun(step.name, step.title, "reused", 0.0, self._log(step), folder))
        self.display.reused(step.title)

    def _log(self, step: Step) -> Path:
        return self.run.out / "logs" / f"{step.name}.log"

    def _begin(self, step: Step) -> None:
        self.started = time.monotonic()
        self.run.steps.append(StepRun(step.name, step.title, "running", 0.0, self._log(step)))
        self.step_log = self._log(step).open("w", encoding="utf-8")
        self.display.begin(step.title)

    def _end(self, state: Literal["done", "failed", "stopped"]) -> None:
        step = self.run.steps[-1]
        step.state, step.seconds = state, round(time.monotonic() - self.started, 2)
        made = (folder / step.name for folder in self.root.glob("*") if folder.name not in self.earlier)
        step.folder = next((folder for folder in made if folder.is_dir()), None)
        self.step_log.close()
        self.step_log = self.log
        self.display.end(state)


def failure(run: LocalRun, code: int) -> str:
    """One line: the step that failed, what it said last, its log, and what there is all the same."""
    failed = next((step for step in run.steps if step.state == "failed"), None)
    if failed is None:
        at = f" in step {run.steps[-1].title!r}" if run.steps else ""
        return f"the pipeline's process ended{at} with exit code {code}: {_last_line(run.log)}; log: {run.log}"
    left = f"; {run.out} holds {', '.join(path.name for path in run.outputs.values())}" if run.outputs else ""
    return f"step {failed.title!r} failed: {_last_line(failed.log)}; log: {failed.log}{left}"


def _last_line(log: Path) -> str:
    """The reason that a log ends with; a job that the step started has given its own just before."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    said = [line for line in lines if line and not line.startswith("[KFP Executor")]
    if not said:
        return "no output"
    own = [line for line in said if line.startswith("taoemb: ")]
    last = own[-1] if own and said[-1].endswith("its reason is in the line above") else said[-1]
    return re.sub(r"^taoemb(\.[\w.]+)?: ", "", last)


def hand_out(pipeline: Pipeline, run: LocalRun) -> None:
    """Put each output that exists into the run's folder under its own name; what an earlier run left there goes."""
    finished = {step.name: step.folder for step in run.steps if step.state in ("done", "reused")}
    for output in pipeline.outputs:
        target = run.out / output.file
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        folder = finished.get(output.step)
        if folder is not None and (folder / output.artifact).exists():
            _link(folder / output.artifact, target)
            run.outputs[output.name] = target


def _link(source: Path, target: Path) -> None:
    """A hard-linked copy: no disk space, and it stays when the steps' own files are deleted."""

    def link(a: str, b: str) -> None:
        try:
            os.link(a, b)
        except OSError:  # another file system, or one without links
            shutil.copy2(a, b)

    if source.is_dir():
        shutil.copytree(source, target, copy_function=link)
    else:
        link(str(source), str(target))
