"""Training runs side by side: a process a core, one thread each, the real objectives on the real engine.

Each worker process keeps its process group, the data and the true grades from one run to the next; what starts from one
release shares its embedded catalogue (`engine.banks`), whose cost is measured once and added to every run that uses it.
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

WORK = Path(__file__).parents[2] / ".bench"
PLAIN = (
    "engine.trackers=[]",
    "engine.checkpoint_every=1000000",
    "encoder.precision=auto",
    "encoder.item_template='{title}'",
    f"engine.banks={WORK / 'banks'}",
)
PROBED = range(2, 8)  # steps that tell what one costs, after a warm-up


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


@dataclass(frozen=True)
class Done:
    """What came of a run."""

    run: Run
    release: Path
    steps: int
    seconds: float
    """Training and what it needs before (mining, embedding the catalogue); no evaluation."""
    metrics: dict[str, np.ndarray] = field(default_factory=dict)


@contextmanager
def workers(count: int) -> Iterator[Any]:
    """A pool of `count` processes with one thread each."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        yield pool


class Shop:
    """A split dataset folder in a worker process, and everything that is made once."""

    def __init__(self, folder: Path) -> None:
        from benchmarks.quality.measure import TrueGrades
        from taoemb.data.dataset import open_dataset
        from taoemb.training.distributed import joined_ranks

        self.folder = folder
        self.train = open_dataset(folder / "train", need=("items", "queries", "pairs"))
        self.truth = TrueGrades(folder / "test")
        self._group = joined_ranks()
        self.ranks = self._group.__enter__()  # for as long as this process lives: DeepSpeed can't meet a second group
        self._judges: dict[str, Any] = {}
        self._vectors: dict[str, np.ndarray] = {}
        self.embed_s: dict[str, float] = {}

    def judge(self, name: str) -> Any:
        """That judge, which remembers what it has graded."""
        from benchmarks.quality.judges import open_judge

        if name not in self._judges:
            self._judges[name] = open_judge(name, self.train)
        return self._judges[name]

    def vectors(self, release: Any) -> np.ndarray:
        """Item vectors of a release; embedding each item encoder's catalogue is timed once."""
        from benchmarks.quality.measure import embed_items
        from taoemb.config import EncoderConfig

        digest = release.manifest.item_encoder_digest
        if digest not in self._vectors:
            started = time.perf_counter()
            encoder = release.item_encoder(config=EncoderConfig(precision="auto"))
            self._vectors[digest] = embed_items(encoder, self.truth.data)
            self.embed_s[digest] = time.perf_counter() - started
        return self._vectors[digest]

    def measured(self, release: Any) -> dict[str, np.ndarray]:
        """Per-query metrics of a release on the held-out queries."""
        return dict(self.truth.of_encoder(release.query_encoder(), self.vectors(release)))


_SHOPS: dict[Path, Shop] = {}


def shop_of(folder: Path) -> Shop:
    """This process's shop."""
    if folder not in _SHOPS:
        _SHOPS[folder] = Shop(folder)
    return _SHOPS[folder]


def train(run: Run, data: Path, out: Path) -> Done:
    """Do one run in this process and measure its release. Finished before, it is only measured."""
    from taoemb.encoder.release import load_release

    shop = shop_of(data)
    folder = out / f"{run.name}-{run.seed}".replace(" ", "-").replace("%", "")
    parent = None if run.start is None else load_release(run.start)
    before = 0.0
    if parent is not None and run.objective != "sft":  # it embeds the catalogue before it trains
        shop.vectors(parent)
        before = shop.embed_s[parent.manifest.item_encoder_digest]
    steps = None
    if run.seconds is not None:
        steps = _steps_within(shop, run, folder, run.seconds - before)
    steps, seconds = _train(shop, run, folder, steps)
    release = load_release(folder / "release")
    return Done(run, release.path, steps, seconds + before, shop.measured(release))


def _objective(shop: Shop, run: Run, folder: Path, steps: int | None) -> tuple[Any, Any]:
    import torch

    from taoemb.config import load_config
    from taoemb.encoder.release import load_release
    from taoemb.training.checkpoint import RunFolder
    from taoemb.training.context import Context, RunArguments

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    more = [] if steps is None else [f"{run.objective}.steps={steps}"]
    config = load_config(None, [*PLAIN, *run.settings, *more, f"engine.seed={run.seed}"])
    parent = None if run.start is None else load_release(run.start)
    data = shop.train
    context = Context(RunArguments(data.root, folder, run.start), config, shop.ranks, data, RunFolder(folder), parent)
    torch.manual_seed(run.seed)
    module = importlib.import_module(f"taoemb.training.{run.objective}")
    if run.objective == "grpo":
        return context, module.RetrievalGRPO(context, config.grpo, shop.judge(run.judge), None)
    return context, module.build(context)


def _train(shop: Shop, run: Run, folder: Path, steps: int | None) -> tuple[int, float]:
    from taoemb.training.run import train as train_loop

    started = time.perf_counter()
    context, objective = _objective(shop, run, folder, steps)
    train_loop(context, objective)
    seconds = time.perf_counter() - started
    objective.close()
    return objective.steps, seconds


def _steps_within(shop: Shop, run: Run, folder: Path, seconds: float) -> int:
    """How many steps fit into `seconds`, what comes before the first one included."""
    started = time.perf_counter()
    _, objective = _objective(shop, run, folder, max(PROBED) + 1)
    before = time.perf_counter() - started
    took = []
    for step in range(max(PROBED) + 1):
        begun = time.perf_counter()
        objective.step(step)
        if step in PROBED:
            took.append(time.perf_counter() - begun)
    objective.close()
    return max(1, round((seconds - before) / float(np.mean(took))))


def make_shop(items: int, queries: int, seed: int) -> Path:
    """The generated shop, split so that test holds only queries of templates that training never shows."""
    from taoemb.config import SplitConfig
    from taoemb.data.split import split
    from taoemb.data.synth import synthesise

    folder = WORK / f"shop-{items}-{queries}-{seed}"
    if not (folder / "split" / "test" / "queries.parquet").is_file():
        synthesise(folder / "shop", items, queries, seed)
        split(folder / "shop", folder / "split", SplitConfig(by="template", test=0.3, valid=0.05))
    return folder / "split"
