"""A tiny shop, a tiny random encoder as a release, a judge by rule over real HTTP, and runs in real processes."""

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from taoemb.config import rank_environment
from taoemb.jobs.local import free_port
from tests.judge.stub import Stub, serving
from tests.training import worker
from tests.training.shop import rule_grade, tiny_encoder, write_shop

SMALL = [
    "encoder.max_item_tokens=16",
    "encoder.max_query_tokens=16",
    "judge.batch_size=64",
    *(f"{objective}.queries=8" for objective in ("sft", "grpo", "hard_negatives", "live_infonce")),
    *(f"{objective}.steps=6" for objective in ("sft", "grpo", "hard_negatives", "live_infonce")),
    *(f"{objective}.optim.lr=0.001" for objective in ("sft", "grpo", "hard_negatives", "live_infonce")),
    "sft.random_negatives=8",
    "hard_negatives.random_negatives=8",
    "grpo.k=8",
    "live_infonce.k=8",
    "engine.checkpoint_every=2",
    "engine.trackers=[]",
    "engine.precision=fp32",
]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset folder."""
    return write_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT."""
    return tiny_encoder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """The random encoder as a release to start from."""
    from taoemb.config import EncoderConfig
    from taoemb.encoder.loading import load_encoder
    from taoemb.encoder.release import save_release

    config = EncoderConfig(model=str(model), max_item_tokens=16, max_query_tokens=16)
    return save_release(tmp_path_factory.mktemp("start") / "release", load_encoder(config)).path


@pytest.fixture
def judge() -> Iterator[Stub]:
    """A judge that grades by the shop's rule and is sure of it."""

    def grade(query: str, item: str) -> Sequence[float]:
        title = item.splitlines()[0].partition(":")[2] or item
        return [0.88 if g == rule_grade(query, title) else 0.04 for g in (1, 2, 3, 4)]

    stub = Stub(grade=grade)
    with serving(stub):
        yield stub


Job = Callable[..., subprocess.Popen]


@pytest.fixture(scope="session")
def start(shop: Path) -> Job:
    """Start one rank of a training job in its own process."""

    def start(
        objective: str,
        out: Path,
        *settings: str,
        release: Path | None = None,
        rank: int = 0,
        ranks: int = 1,
        port: int = 0,
    ) -> subprocess.Popen:
        command = [sys.executable, "-m", f"taoemb.training.{objective}", "--data", str(shop), "--out", str(out)]
        command += ["--release", str(release)] if release else []
        for setting in (*SMALL, *settings):
            command += ["--set", setting]
        environment = rank_environment(rank, ranks, port) | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="session")
def train(start: Job) -> Callable[..., list[dict]]:
    """Run a job to its end and return its records."""

    def train(objective: str, out: Path, *settings: str, release: Path | None = None, ranks: int = 1) -> list[dict]:
        port = free_port()
        jobs = [
            start(objective, out, *settings, release=release, rank=rank, ranks=ranks, port=port)
            for rank in range(ranks)
        ]
        said = [job.communicate(timeout=240)[1] for job in jobs]
        assert [job.returncode for job in jobs] == [0] * ranks, said[0]
        return records(out)

    return train


def records(out: Path) -> list[dict]:
    """The run's records, one a step."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def _worker() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=worker.join) as process:
        yield process


@pytest.fixture
def train_here(shop: Path, judge: Stub, _worker: ProcessPoolExecutor) -> Callable[..., list[dict]]:
    """Run a job on one rank in the process kept for that, which is quicker; raises what the run raises."""

    def train_here(
        objective: str,
        out: Path,
        *settings: str,
        release: Path | None = None,
        data: Path = shop,
        stop_after: int | None = None,
    ) -> list[dict]:
        arguments = ["--data", str(data), "--out", str(out), *(["--release", str(release)] if release else [])]
        for setting in (*SMALL, f"judge.url={judge.url}", *settings):
            arguments += ["--set", setting]
        _worker.submit(worker.run, objective, arguments, stop_after).result(timeout=240)
        return records(out)

    return train_here
