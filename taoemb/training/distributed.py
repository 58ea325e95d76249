"""The ranks of a job: how they meet, and the few collective operations that training needs."""

import datetime
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from taoemb.config import distributed_env
from taoemb.errors import InputError, TaoembError

Rows = TypeVar("Rows", np.ndarray, Tensor)
T = TypeVar("T")
TIMEOUT = datetime.timedelta(hours=2)  # a rank may wait this long for another one's judge


@dataclass(frozen=True)
class Ranks:
    """This process among the job's ranks."""

    rank: int
    world_size: int
    device: torch.device
    node: int = 0  # the first rank of this rank's machine

    @property
    def main(self) -> bool:
        """Whether this rank writes logs and files."""
        return self.rank == 0

    def share(self, array: Rows) -> Rows:
        """This rank's equal, contiguous part of something that all ranks know."""
        part = len(array) // self.world_size
        return array[self.rank * part : (self.rank + 1) * part]


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the job's process group (nccl on GPUs, gloo on CPUs) and leave it at the end."""
    env = distributed_env()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", env.local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    with tempfile.TemporaryDirectory() as folder:
        alone = env.world_size == 1
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            init_method=f"file://{Path(folder) / 'store'}" if alone else "env://",
            rank=env.rank,
            world_size=env.world_size,
            timeout=TIMEOUT,
        )
        try:
            yield Ranks(env.rank, env.world_size, device, node=env.rank - env.local_rank)
        finally:
            dist.destroy_process_group()


def check_divisible(count: int, parts: int, setting: str) -> None:
    """Every rank must hold the same number of queries; say which setting to change when it can't."""
    if count % parts:
        raise InputError(f"{setting} is {count}: not divisible by ranks × engine.gradient_accumulation = {parts}")


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local_ND: Tensor) -> Tensor:
        parts = [torch.empty_like(local_ND) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local_ND.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient_MD: Tensor) -> Tensor:
        gradient_MD = gradient_MD.contiguous()
        dist.all_reduce(gradient_MD)
        n = len(gradient_MD) // dist.get_world_size()
        return gradient_MD[dist.get_rank() * n : (dist.get_rank() + 1) * n]


def gather_with_gradient(local_ND: Tensor) -> Tensor:
    """Concatenate every rank's rows; gradients of all ranks' losses flow back to the rank that made each row.

    (N, D) on each rank → (world · N, D). With losses averaged over ranks this is the gradient of the global batch.
    """
    return local_ND if dist.get_world_size() == 1 else _GatherWithGradient.apply(local_ND)


def gather_rows(local: Tensor) -> Tensor:
    """Concatenate every rank's rows, without gradient."""
    if dist.get_world_size() == 1:
        return local
    parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, local.contiguous())
    return torch.cat(parts)


def sum_over_ranks(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Add up named numbers over all ranks (one collective)."""
    if dist.get_world_size() == 1:
        return dict(values)
    packed = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(packed)
    return dict(zip(values, packed.tolist(), strict=True))


def mean_over_ranks(values: dict[str, float], ranks: Ranks) -> dict[str, float]:
    """The mean of named numbers over all ranks (all ranks call)."""
    return {name: total / ranks.world_size for name, total in sum_over_ranks(values, ranks.device).items()}


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; all ranks get the same answer."""
    return sum_over_ranks({"flag": float(flag)}, device)["flag"] > 0


class StoppedElsewhere(TaoembError):
    """Another rank stopped the job; it says why, and this one ends with the same exit code."""

    def __init__(self, code: int) -> None:
        super().__init__("another rank stopped the job; it says why")
        self.exit_code = code


def first_trouble(trouble: str, ranks: Ranks) -> str:
    """The first rank's trouble that is not empty; every rank gets the same (all ranks call)."""
    if ranks.world_size == 1:
        return trouble
    every: list[str] = [""] * ranks.world_size
    dist.all_gather_object(every, trouble)
    return next((said for said in every if said), "")


def on_main(ranks: Ranks, work: Callable[[], T]) -> T:
    """What `work` gives on the main rank, on every rank (all ranks call); it must pickle.

    A TaoembError or OSError of it is raised on the main rank, and StoppedElsewhere on the others.
    """
    if ranks.world_size == 1:
        return work()
    told: list[Any] = [None, 0]
    failure: TaoembError | OSError | None = None
    if ranks.main:
        try:
            told[0] = work()
        except TaoembError as error:
            failure, told[1] = error, error.exit_code
        except OSError as error:
            failure, told[1] = error, TaoembError.exit_code
    dist.broadcast_object_list(told, src=0)
    if failure is not None:
        raise failure
    if told[1]:
        raise StoppedElsewhere(told[1])
    return told[0]
