"""What the parts of the GPU benchmark share: how much is measured, what a measurement is, and where it is kept."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.record import Aim, Record, Table
from benchmarks.speed.gpu_model import TINY, Meter, Shape, new_encoder, peak_flops
from taoemb.config import Config, load_config
from taoemb.data.dataset import Dataset
from taoemb.encoder.model import Encoder
from taoemb.training.distributed import Ranks


@dataclass(frozen=True)
class Plan:
    """How much is measured; queries are those of one rank."""

    shape: Shape = field(default_factory=Shape)
    sft_queries: tuple[int, int] = (64, 256)
    """With eager and with compiled layers, which keep less for the backward pass."""
    both_queries: int = 16
    query_queries: int = 1024
    k: int = 32
    zero_queries: int = 32
    bulk_texts: int = 8192
    bank: tuple[int, int] = (10_000_000, 512)
    bank_dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)
    training_items: int = 100_000
    seconds: float = 12.0
    """Time limit of one measurement; at least `least` steps are made."""
    least: int = 3
    warm: int = 2
    compiled: bool = True


TINY_PLAN = Plan(
    shape=TINY,
    sft_queries=(4, 4),
    both_queries=2,
    query_queries=4,
    k=4,
    zero_queries=4,
    bulk_texts=64,
    bank=(3000, 16),
    training_items=200,
    seconds=0.1,
    least=1,
    warm=1,
    compiled=False,
)


@dataclass(frozen=True)
class Speed:
    """What one measurement found, on one rank."""

    tokens_per_s: float
    mfu: float | None
    padding: float
    step_s: float
    memory_gb: float | None

    def cells(self) -> list[str]:
        """For a table."""
        return [f"{self.tokens_per_s:,.0f}", percent(self.mfu), percent(self.padding), f"{self.step_s * 1e3:,.0f}",
                gigabytes(self.memory_gb)]  # fmt: skip


SPEED_HEAD = ["tokens/s", "MFU", "padding", "step, ms", "peak, GB"]


@dataclass(frozen=True)
class Bench:
    """What every part needs."""

    plan: Plan
    ranks: Ranks
    data: Dataset
    folder: Path
    record: Record
    save: Callable[[], None]

    def config(self, *settings: str) -> Config:
        """Settings of one training part."""
        return load_config(None, ["engine.precision=bf16", *settings])

    def encoder(self, compiled: bool = False) -> tuple[Encoder, Meter]:
        """A fresh encoder on the device, and what counts its passes."""
        encoder, meter = new_encoder(self.plan.shape, self.ranks.device, compiled=compiled), Meter(self.plan.shape)
        meter.watch(encoder)
        return encoder, meter

    def steps(self, step: Callable[[int], object], meter: Meter) -> Speed:
        """Warm up, then repeat `step(number)` until the time limit; the slowest rank decides when."""
        plan, device = self.plan, self.ranks.device
        for number in range(plan.warm):
            step(number)
        meter.reset()
        _synchronise(device)
        started, count = time.perf_counter(), 0
        while count < plan.least or self._time_is_left(started):
            step(plan.warm + count)
            count += 1
        _synchronise(device)
        seconds = time.perf_counter() - started
        peak = peak_flops(device)[1]
        mfu = None if peak is None else meter.flops / seconds / peak
        return Speed(
            meter.tokens / seconds, mfu, 1 - meter.tokens / max(1, meter.padded), seconds / count, _peak_memory(device)
        )

    def _time_is_left(self, started: float) -> bool:
        left = torch.tensor(float(time.perf_counter() - started < self.plan.seconds), device=self.ranks.device)
        if self.ranks.world_size > 1:  # all ranks make equally many steps
            torch.distributed.all_reduce(left, torch.distributed.ReduceOp.MIN)
        return bool(left)

    def table(self, title: str, head: list[str], rows: list[list[str]], text: str = "") -> None:
        """Add a table or replace the one of this title, show it, and save."""
        kept = [table for table in self.record.tables if table.title != title]
        self.record.tables[:] = [*kept, Table(title, head, rows, text)]
        if self.ranks.main:
            print(f"{title}: {dict(zip(head, rows[-1], strict=True))}", flush=True)
            self.save()

    def aim(self, name: str, least: float, found: dict[str, Speed], tried: str) -> None:
        """Hold the best MFU against an aim; without a known peak there is nothing to hold."""
        known = {what: speed.mfu for what, speed in found.items() if speed.mfu is not None}
        if not known or not self.ranks.main:
            return
        best = max(known, key=lambda what: known[what])
        met = known[best] >= least
        self.record.aims.append(
            Aim(f"{name}: at least {least:.0%} MFU", f"{known[best]:.0%} ({best})", met, "" if met else tried)
        )
        self.save()


def free(device: torch.device) -> None:
    """Memory as if nothing had run before, and its peak counted anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None


def percent(share: float | None) -> str:
    """For a cell."""
    return "–" if share is None else f"{share:.1%}"


def gigabytes(size: float | None) -> str:
    """For a cell."""
    return "–" if size is None else f"{size:.1f}"
