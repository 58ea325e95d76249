"""The loop that every objective shares: resume, step, log, check, checkpoint, and the release at the end."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from torch import Tensor

from taoemb.encoder.release import Release
from taoemb.errors import TaoembError
from taoemb.progress import progress
from taoemb.training.alarms import Alarms, sound
from taoemb.training.checkpoint import load_checkpoint, save_checkpoint, write_json
from taoemb.training.context import Context
from taoemb.training.distributed import any_rank
from taoemb.training.engine import Engine
from taoemb.training.tracking import open_trackers


class Interrupted(TaoembError):
    """The run was told to stop; its checkpoint is whole."""

    exit_code = 130


class StopTraining(TaoembError):
    """An objective cannot go on (on every rank alike); its state is as it was before the step."""


class Objective(Protocol):
    """One way to train an encoder."""

    name: str
    engine: Engine
    steps: int

    def step(self, step: int) -> dict[str, float]:
        """Train one step (all ranks call) and return what to log."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the engine (all ranks call)."""

    def load_state(self, state: Mapping[str, Any], step: int) -> None:
        """Go back to a checkpoint made before `step`."""

    def save_release(self, weights: Mapping[str, Tensor], training: Mapping[str, Any]) -> Release:
        """Write the release folder (main rank)."""

    def facts(self) -> dict[str, Any]:
        """What the release's manifest says of this training."""

    def reward_judges(self) -> list[str]:
        """Digests of the judges that gave reward here: they may not grade the release, nor any trained from it."""

    def close(self) -> None:
        """Let go of what the objective holds open."""


def train(context: Context, objective: Objective) -> None:
    """Run the objective to its end, or to a checkpoint if it is interrupted or cannot go on."""
    started = time.monotonic()
    resumed = load_checkpoint(context.folder, objective.engine)
    first, state = resumed if resumed else (0, {})
    alarms = Alarms(context.config.engine)
    if resumed:
        objective.load_state(state, first)
        alarms.load_state(state["alarms"])
    last = _steps(context, objective, first, alarms)
    weights = objective.engine.weights()
    if weights is None:
        return
    training = {"objective": objective.name, "seconds": round(time.monotonic() - started, 1)} | objective.facts()
    sound(alarms.at_the_end())
    training["alarms"] = alarms.raised
    training["reward_judges"] = sorted({*objective.reward_judges(), *_inherited_judges(context)})
    release = objective.save_release(weights, training | {"config": context.config.model_dump(mode="json")})
    summary = {"release": str(release.path), "digest": release.manifest.digest, "steps": objective.steps}
    write_json(context.folder.summary, summary | {"resumed_at": first} | training | {"last": last})


def _inherited_judges(context: Context) -> list[str]:
    return [] if context.parent is None else list(context.parent.manifest.training.get("reward_judges", ()))


def _steps(context: Context, objective: Objective, first: int, alarms: Alarms) -> dict[str, float]:
    engine_config, ranks = context.config.engine, context.ranks
    metrics: dict[str, float] = {}
    label = f"train {objective.name}"
    with (
        open_trackers(context.folder.root, engine_config, first, main=ranks.main) as trackers,
        progress(label, objective.steps, show=ranks.main) as bar,
        _stop_signal() as stopped,
    ):
        bar.advance(first)
        for step in range(first, objective.steps):
            if any_rank(stopped(), ranks.device):
                _checkpoint(context, objective, step, alarms)
                raise Interrupted(f"stopped before step {step} of {objective.steps}; run the same command to resume")
            begun = time.monotonic()
            try:
                metrics = objective.step(step)
            except StopTraining:
                _checkpoint(context, objective, step, alarms)
                raise
            metrics["step_s"] = time.monotonic() - begun
            if step % engine_config.log_every == 0 or step + 1 == objective.steps:
                trackers.record(step, metrics)
            if ranks.main:
                sound(alarms.check(step, metrics))
            bar.advance(1, f"loss {metrics['loss']:.4f}")
            if (step + 1) % engine_config.checkpoint_every == 0 and step + 1 < objective.steps:
                _checkpoint(context, objective, step + 1, alarms)
    return metrics


def _checkpoint(context: Context, objective: Objective, step: int, alarms: Alarms) -> None:
    keep, state = context.config.engine.keep_checkpoints, objective.state() | {"alarms": alarms.state()}
    save_checkpoint(context.folder, objective.engine, step, state, context.ranks, keep)


@contextmanager
def _stop_signal() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a question that the loop asks between steps."""
    received = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal received
        received = True

    earlier = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: received
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
