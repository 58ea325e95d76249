"""The loop that every objective shares: resume, step, log, check, checkpoint, and the release at the end."""

import signal
import sys
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
from taoemb.training.checkpoint import (
    UNWRITTEN,
    CheckpointFailed,
    Cut,
    Saved,
    load_checkpoint,
    reason,
    save_checkpoint,
)
from taoemb.training.context import Context
from taoemb.training.distributed import StoppedElsewhere, any_rank, first_trouble, on_main
from taoemb.training.engine import Engine
from taoemb.training.folder import check_room, tidy, write_json
from taoemb.training.tracking import Trackers, open_trackers


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
        """Go back to a checkpoint made before `step` (all ranks call)."""

    def save_release(self, weights: Mapping[str, Tensor], training: Mapping[str, Any]) -> Release:
        """Write the release folder (main rank)."""

    def facts(self) -> dict[str, Any]:
        """What the release's manifest says of this training."""

    def reward_judges(self) -> list[str]:
        """Digests of the judges that gave reward here: they may not grade the release, nor any trained from it."""

    def judges(self) -> dict[str, str]:
        """Digests of all judges that it asks, by their section of the settings: part of what run this is."""

    def close(self) -> None:
        """Let go of what the objective holds open."""


def train(context: Context, objective: Objective) -> None:
    """Run the objective to its end, or to a checkpoint if it is interrupted or cannot go on."""
    started = time.monotonic()
    on_main(context.ranks, lambda: _tidy_and_check(context, objective))
    saved = load_checkpoint(context.folder, objective.engine)
    run = _Run(context, objective, saved)
    with _stop_signal() as stopped:
        last = run.steps(saved.step, stopped) if saved.step < objective.steps else dict(saved.last)
        weights = objective.engine.weights()
        if weights is None:
            return
        training = {"objective": objective.name, "seconds": round(time.monotonic() - started, 1)} | objective.facts()
        sound(run.alarms.at_the_end())
        training["alarms"] = run.alarms.raised
        training["reward_judges"] = sorted({*run.judges, *_inherited_judges(context)})
        try:
            release = objective.save_release(weights, training | {"config": context.config.model_dump(mode="json")})
            summary = {"release": str(release.path), "digest": release.manifest.digest, "steps": objective.steps}
            write_json(context.folder.summary, summary | {"resumed_at": saved.step} | training | {"last": last})
        except (TaoembError, *UNWRITTEN) as error:
            raise TaoembError(
                f"{context.folder.root}: the release can't be written ({reason(error)}); {_kept(context)}"
            ) from None


def _tidy_and_check(context: Context, objective: Objective) -> None:
    tidy(context.folder)
    engine, keep = objective.engine, context.config.engine.keep_checkpoints
    check_room(context.folder, engine.release_bytes, engine.checkpoint_bytes, keep)


def _inherited_judges(context: Context) -> list[str]:
    return [] if context.parent is None else list(context.parent.manifest.training.get("reward_judges", ()))


def _kept(context: Context) -> str:
    """What a disk that is full or read-only has left of the run, and what to do."""
    steps = context.folder.saved_steps()
    kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "no checkpoint could be written"
    return f"{kept}: free the disk, then run the same command to go on"


class _Run:
    """The steps of one run on this rank."""

    def __init__(self, context: Context, objective: Objective, saved: Saved) -> None:
        self._context, self._objective = context, objective
        self.judges = {*saved.judges, *objective.reward_judges()}
        self.alarms = Alarms(context.config.engine)
        if saved.step:
            self.alarms.load_state(saved.alarms)
        if 0 < saved.step < objective.steps:
            objective.load_state(saved.state, saved.step)
        self._cut = Cut.of(context.config.engine, context.ranks)
        self._last: dict[str, float] = {}
        self._trouble = ""  # this rank's, with its disk

    def steps(self, first: int, stopped: Callable[[], bool]) -> dict[str, float]:
        """Train from step `first` on; the last step's metrics. The run's end is a checkpoint too."""
        config, ranks, objective = self._context.config.engine, self._context.ranks, self._objective
        with (
            open_trackers(self._context.folder.root, config, first, main=ranks.main) as trackers,
            progress(f"train {objective.name}", objective.steps, show=ranks.main) as bar,
        ):
            bar.advance(first)
            for step in range(first, objective.steps):
                self._stop_if_asked(step, stopped())
                self._last = self._step(step)
                if step % config.log_every == 0 or step + 1 == objective.steps:
                    self._record(trackers, step)
                if ranks.main:
                    sound(self.alarms.check(step, self._last))
                bar.advance(1, f"loss {self._last['loss']:.4f}")
                if (step + 1) % config.checkpoint_every == 0 and step + 1 < objective.steps:
                    self._checkpoint_or_stop(step + 1)
            self._stop_if_asked(objective.steps, False)
        self._keep_the_end()
        return self._last

    def _step(self, step: int) -> dict[str, float]:
        begun = time.monotonic()
        try:
            metrics = self._objective.step(step)
        except StopTraining as error:
            left = self._stopping_at(step)
            raise self._last_words(StopTraining(f"{error}{left}")) from None
        return metrics | {"step_s": time.monotonic() - begun}

    def _record(self, trackers: Trackers, step: int) -> None:
        try:
            trackers.record(step, self._last)
        except OSError as error:
            self._trouble = f"{self._context.folder.root}: its metrics can't be written ({reason(error)})"

    def _stop_if_asked(self, step: int, asked: bool) -> None:
        """Write a checkpoint and stop, on every rank, when any was told to or has lost its disk."""
        if not any_rank(asked or bool(self._trouble), self._context.ranks.device):
            return
        trouble = first_trouble(self._trouble, self._context.ranks)
        left = self._stopping_at(step)
        if trouble:
            raise self._last_words(TaoembError(f"{trouble}; {_kept(self._context)}"))
        again = "run the same command to resume"
        words = f"stopped before step {step} of {self._objective.steps}; {again}{left}"
        raise self._last_words(Interrupted(words))

    def _last_words(self, error: TaoembError) -> TaoembError:
        """All ranks stop alike; one of them says why."""
        return error if self._context.ranks.main else StoppedElsewhere(error.exit_code)

    def _checkpoint_or_stop(self, step: int) -> None:
        try:
            self._checkpoint(step)
        except CheckpointFailed as error:
            raise self._last_words(TaoembError(f"{error}; {_kept(self._context)}")) from None

    def _stopping_at(self, step: int) -> str:
        """Write the checkpoint that a run leaves when it stops; what to add to its last words if that failed."""
        try:
            self._checkpoint(step)
        except CheckpointFailed as error:
            return f" ({error})"
        return ""

    def _keep_the_end(self) -> None:
        """The weights must not be lost when the release can't be written. It may still fit where this did not."""
        try:
            self._checkpoint(self._objective.steps)
        except CheckpointFailed as error:
            if self._context.ranks.main:
                print(f"warning: {error}", file=sys.stderr)

    def _checkpoint(self, step: int) -> None:
        context, objective = self._context, self._objective
        last = {name: float(value) for name, value in self._last.items()}
        saved = Saved(step, objective.state(), tuple(sorted(self.judges)), last, self.alarms.state())
        keep = context.config.engine.keep_checkpoints
        save_checkpoint(context.folder, objective.engine, saved, self._cut, context.ranks, keep)


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
