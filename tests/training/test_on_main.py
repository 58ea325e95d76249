"""What fails on the main rank ends all ranks, each with the same exit code."""

from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from taoemb.errors import InputError, TaoembError
from taoemb.training.distributed import Ranks, StoppedElsewhere, on_main


def _fail(rank: int, store: str, error: Exception, told) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)

    def work() -> None:
        raise error

    try:
        on_main(Ranks(rank, 2, torch.device("cpu"), node=0), work)
    except StoppedElsewhere as stopped:
        told.put((rank, "StoppedElsewhere", stopped.exit_code))
    except (TaoembError, OSError) as mine:
        told.put((rank, type(mine).__name__, 0))
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("bad"), 2), (TaoembError("away"), 1), (OSError(28, "No space left"), 1)]
)
def test_a_failure_of_the_main_rank_reaches_all(error: Exception, code: int, tmp_path: Path) -> None:
    context = get_context("fork")
    told = context.Queue()
    ranks = [context.Process(target=_fail, args=(rank, str(tmp_path / "store"), error, told)) for rank in (0, 1)]
    for one in ranks:
        one.start()
    found = sorted(told.get(timeout=60) for _ in ranks)
    for one in ranks:
        one.join(60)
    assert found == [(0, type(error).__name__, 0), (1, "StoppedElsewhere", code)]
