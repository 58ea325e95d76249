"""Checkpoints that are whole or absent: written beside, then renamed; and what identifies the run they belong to."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from taoemb.errors import InputError
from taoemb.training.distributed import Ranks
from taoemb.training.engine import Engine

_PREFIX = "step-"


@dataclass(frozen=True)
class RunFolder:
    """The output folder of a training run."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def release(self) -> Path:
        return self.root / "release"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    def judgments(self, ranks: Ranks) -> Path:
        """The judgment cache of the machine that this rank runs on: SQLite must not be shared over a network."""
        return self.root / ("judgments.sqlite" if ranks.node == 0 else f"judgments-{ranks.node}.sqlite")

    def saved_steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first."""
        names = (entry.name for entry in self.checkpoints.glob(f"{_PREFIX}*"))
        return sorted(int(name.removeprefix(_PREFIX)) for name in names)


def claim(folder: RunFolder, identity: dict[str, Any]) -> None:
    """Take the folder for the run that `identity` describes, or find that it is this run's already.

    Raises InputError when it holds another run: two runs never mix their checkpoints.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
    marker = folder.root / "run.json"
    if marker.exists():
        earlier = json.loads(marker.read_text(encoding="utf-8"))
        if earlier["digest"] != digest:
            changed = [k for k in identity if json.loads(json.dumps(identity[k], default=str)) != earlier["run"].get(k)]
            raise InputError(
                f"{folder.root}: holds a run with other {', '.join(changed) or 'settings'}; "
                "give another --out, or remove the folder to start again"
            )
        return
    write_json(marker, {"digest": digest, "run": identity})


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    os.replace(partial, path)


def save_checkpoint(
    folder: RunFolder, engine: Engine, step: int, state: dict[str, Any], ranks: Ranks, keep: int
) -> None:
    """Save the engine and the objective's own state after `step` steps (all ranks call); drop old checkpoints.

    The `state` of the main rank counts, so it must describe all ranks.
    """
    name = f"{_PREFIX}{step}"
    partial = folder.checkpoints / f".{name}.partial"
    if ranks.main:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    dist.barrier()
    engine.save(partial, "engine")
    if ranks.main:
        torch.save({"step": step, "state": state}, partial / "state.pt")
    dist.barrier()
    if ranks.main:
        final = folder.checkpoints / name
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in folder.saved_steps()[:-keep]:
            shutil.rmtree(folder.checkpoints / f"{_PREFIX}{old}")
    dist.barrier()


def load_checkpoint(folder: RunFolder, engine: Engine) -> tuple[int, dict[str, Any]] | None:
    """Load the newest checkpoint (all ranks call): the number of finished steps and the objective's state."""
    steps = folder.saved_steps()
    if not steps:
        return None
    path = folder.checkpoints / f"{_PREFIX}{steps[-1]}"
    engine.load(path, "engine")
    saved = torch.load(path / "state.pt", weights_only=False)
    return saved["step"], saved["state"]
