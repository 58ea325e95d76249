"""Training runs side by side: a process a core, one thread each, the real objectives on the real engine.

What starts from one release shares its embedded catalogue (`engine.banks`), whose cost is measured once and counted in
every run that needs it.
"""

import importlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.measure import embed_items
from benchmarks.quality.places import Place, Where, place
from taoemb.config import EncoderConfig
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import load_release
from taoemb.training.context import Context
from taoemb.training.run import train as train_loop

PROBED = range(1, 5)  # steps that tell what one costs, after a warm-up


@dataclass(frozen=True)
class Run:
    """One training run."""

    name: str
    objective: str
    seed: int
    settings: Sequence[str] = ()
    start: Path | None = None
    """The release that it starts from."""
    judge: str = ""
    seconds: float | None = None
    """Train as many steps as fit into this time, mining and embedding included; None: as many as the settings say."""

    def folder(self, out: Path) -> Path:
        """Where it trains."""
        plain = "".join(letter if letter.isalnum() else "-" for letter in self.name)
        return out / f"{plain}-{self.seed}"


@dataclass(frozen=True)
class Done:
    """What came of a run."""

    run: Run
    release: Path
    steps: int
    seconds: float
    """Training, and what it needs before (mining, embedding the catalogue); neither the judge's time nor evaluation."""
    metrics: dict[str, np.ndarray] = field(default_factory=dict)


@contextmanager
def workers(count: int) -> Iterator[Any]:
    """A pool of `count` processes with one thread each."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        yield pool


def train(run: Run, where: Where, out: Path) -> Done:
    """Do one run in this process and measure its release."""
    here, folder = place(where), run.folder(out)
    before = 0.0
    if run.start is not None and run.objective != "sft":  # it embeds the catalogue before it trains
        before = here.embed_s(load_release(run.start))
    steps = None if run.seconds is None else _steps_within(here, run, folder, run.seconds - before)
    steps, seconds = _train(here, run, folder, steps)
    release = load_release(folder / "release")
    return Done(run, release.path, steps, seconds + before, here.measured(release))


def finished(run: Run, where: Where, out: Path) -> Done | None:
    """A run that another benchmark has done already, measured again; None when it is not there."""
    folder = run.folder(out) / "release"
    if not (folder / "release.json").is_file():
        return None
    return Done(run, folder, 0, 0.0, place(where).measured(load_release(folder)))


def elsewhere(release: Path | None, where: Where, item_template: str = "") -> dict[str, np.ndarray]:
    """A release on another catalogue than it was trained on; None: the encoder before any training."""
    here = place(where)
    if release is None:
        config = EncoderConfig(precision="auto", item_template=item_template)
        encoder = load_encoder(config)
        return dict(here.grades.of_encoder(encoder, embed_items(encoder, here.train)))
    return here.measured(load_release(release))


def _objective(here: Place, run: Run, folder: Path, steps: int | None) -> tuple[Context, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    more = [] if steps is None else [f"{run.objective}.steps={steps}"]
    context = here.context(folder, [*run.settings, *more, f"engine.seed={run.seed}"], run.start)
    torch.manual_seed(run.seed)
    module = importlib.import_module(f"taoemb.training.{run.objective}")
    if run.objective == "grpo":
        return context, module.RetrievalGRPO(context, context.config.grpo, here.judge(run.judge), None)
    return context, module.build(context)


def _train(here: Place, run: Run, folder: Path, steps: int | None) -> tuple[int, float]:
    judged = here.judge(run.judge).seconds if run.judge else 0.0
    started = time.perf_counter()
    context, objective = _objective(here, run, folder, steps)
    train_loop(context, objective)
    seconds = time.perf_counter() - started
    if run.judge:
        seconds -= here.judge(run.judge).seconds - judged
    objective.close()
    objective.engine.close()
    return objective.steps, seconds


def _steps_within(here: Place, run: Run, folder: Path, seconds: float) -> int:
    """How many steps fit into `seconds`, what comes before the first one included."""
    started = time.perf_counter()
    _, objective = _objective(here, run, folder, max(PROBED) + 1)
    before = time.perf_counter() - started
    took = []
    for step in range(max(PROBED) + 1):
        begun = time.perf_counter()
        objective.step(step)
        if step in PROBED:
            took.append(time.perf_counter() - begun)
    objective.close()
    objective.engine.close()
    return max(1, round((seconds - before) / float(np.mean(took))))
