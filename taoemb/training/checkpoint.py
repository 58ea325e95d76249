"""Checkpoints that are whole or absent: written beside, then renamed. A disk that fills up costs no weights.

DeepSpeed writes the engine, each rank its part; `state.pt` holds the rest in tensors and plain values, so that reading
it runs no code. `cut.json` says how the engine was cut, since DeepSpeed can't cut what it wrote anew.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from taoemb.config import EngineConfig
from taoemb.errors import InputError, TaoembError
from taoemb.training.distributed import Ranks, first_trouble
from taoemb.training.engine import Engine
from taoemb.training.folder import RunFolder, write_json

__all__ = ["Cut", "RunFolder", "Saved", "check_cut", "load_checkpoint", "save_checkpoint"]

UNWRITTEN = (OSError, SafetensorError, RuntimeError)
"""What a full or read-only disk makes of writing: torch says RuntimeError."""
_ENGINE, _STATE, _CUT, _ARRAY = "engine", "state.pt", "cut.json", "\0array"


class CheckpointFailed(TaoembError):
    """A checkpoint could not be written; those before it are as they were. Raised on every rank alike."""


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds beside the engine."""

    step: int = 0
    """Finished steps."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """The objective's own; numpy arrays and tensors, plain values, lists and mappings of them."""
    judges: tuple[str, ...] = ()
    """Digests of the judges that gave reward so far."""
    last: Mapping[str, float] = field(default_factory=dict)
    """What was logged of the last step."""
    alarms: Mapping[str, Any] = field(default_factory=dict)
    """What the alarms have seen."""


@dataclass(frozen=True)
class Cut:
    """How an engine's state is divided among files."""

    ranks: int
    zero_stage: int
    offload: str

    @classmethod
    def of(cls, config: EngineConfig, ranks: Ranks) -> "Cut":
        """That of this run."""
        return cls(ranks.world_size, config.zero_stage, config.offload)

    def reads(self, written: "Cut") -> bool:
        """Whether an engine that is cut so can read what was written: without ZeRO every rank holds everything."""
        if self.zero_stage == written.zero_stage == 0:
            return self.offload == written.offload
        return self == written


def check_cut(folder: RunFolder, cut: Cut) -> None:
    """Raises InputError when the newest checkpoint was cut in a way that this run's engine can't read."""
    steps = folder.saved_steps()
    path = folder.checkpoint(steps[-1]) / _CUT if steps else None
    if path is None or not path.is_file():
        return
    written = Cut(**json.loads(path.read_text(encoding="utf-8")))
    if not cut.reads(written):
        raise InputError(
            f"{folder.root}: its checkpoint was written by {_said(written)}, and DeepSpeed can't read it as "
            f"{_said(cut)}; resume as it was begun, or give another --out"
        )


def _said(cut: Cut) -> str:
    ranks = f"{cut.ranks} rank{'s' if cut.ranks > 1 else ''}"
    offload = "" if cut.offload == "none" else f" with engine.offload {cut.offload}"
    return f"{ranks} at engine.zero_stage {cut.zero_stage}{offload}"


def save_checkpoint(folder: RunFolder, engine: Engine, saved: Saved, cut: Cut, ranks: Ranks, keep: int) -> None:
    """Save the engine and what is saved beside it (all ranks call); the main rank's `saved` counts.

    Drops old checkpoints. Raises CheckpointFailed on every rank when any could not write its part.
    """
    final = folder.checkpoint(saved.step)
    partial = folder.checkpoints / f".{final.name}.partial"

    def make_room() -> None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)

    def write_state() -> None:
        torch.save(_plain(vars(saved)), partial / _STATE)
        write_json(partial / _CUT, asdict(cut))

    def take_place() -> None:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in folder.saved_steps()[:-keep]:
            shutil.rmtree(folder.checkpoint(old), ignore_errors=True)

    on_main = ranks.main
    parts: tuple[tuple[bool, Callable[[], None]], ...] = (
        (on_main, make_room),
        (True, lambda: engine.save(partial, _ENGINE)),
        (on_main, write_state),
        (on_main, take_place),
    )
    for mine, part in parts:
        trouble = first_trouble(_tried(part) if mine else "", ranks)
        if trouble:
            if ranks.main:
                shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointFailed(f"{folder.root}: the checkpoint of step {saved.step} can't be written ({trouble})")


def _tried(part: Callable[[], None]) -> str:
    """What went wrong with the disk; empty: nothing."""
    try:
        part()
    except UNWRITTEN as error:
        return reason(error)
    return ""


def reason(error: Exception) -> str:
    """Why a file could not be written, in few words."""
    if isinstance(error, TaoembError) and isinstance(error.__cause__, Exception):
        return reason(error.__cause__)
    if isinstance(error, RuntimeError):  # its words are about positions in an archive
        return "torch could not write it, most likely for want of room"
    said = error.strerror if isinstance(error, OSError) else None
    return said or " ".join(str(error).split())[:200]


def load_checkpoint(folder: RunFolder, engine: Engine) -> Saved:
    """Load the newest checkpoint, if there is one (all ranks call); what it holds beside the engine."""
    steps = folder.saved_steps()
    if not steps:
        return Saved()
    path = folder.checkpoint(steps[-1])
    engine.load(path, _ENGINE)
    return Saved(**_arrays(torch.load(path / _STATE, weights_only=True)))


def _plain(value: Any) -> Any:
    """The same with numpy arrays as marked tensors: what torch reads without running code."""
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(part) for part in value)
    return value


def _arrays(value: Any) -> Any:
    """The inverse of `_plain`."""
    if isinstance(value, dict):
        return value[_ARRAY].numpy() if _ARRAY in value else {key: _arrays(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_arrays(part) for part in value)
    return value
