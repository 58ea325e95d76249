"""What Retrieval-GRPO costs as groups grow (K) and as the catalogue grows, part by part.

    python -m benchmarks.quality.cost [--quick]

A step is the library's own (`benchmarks/grpo_parts.py`); its judge answers at once, so that what is timed is the
training and what the judge would have to do is a count. The generated shop gives the texts. Banks from 100,000 rows on
hold random unit vectors: Top-K reads and multiplies every vector whatever it means; what embedding them would take is
extrapolated from the measured rate, and said to be.
"""

import copy
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import memory
from benchmarks.grpo_parts import GrpoStep, new_context, random_unit_vectors
from benchmarks.record import Aim, Record, Table, in_turn, options, ratio
from taoemb.config import load_config
from taoemb.data.dataset import Dataset, open_dataset
from taoemb.data.synth import synthesise
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.model import Encoder
from taoemb.retrieval import scan
from taoemb.retrieval.bank import ItemBank
from taoemb.training.context import Context
from taoemb.training.distributed import Ranks, joined_ranks
from taoemb.training.engine import Engine
from taoemb.training.timing import Stopwatch

TOWERS = {"query": 64, "both": 8}  # queries a step; with both towers K items a query pass through the encoder too
PARTS = ("queries", "Top-K", "group", "forward", "loss", "backward", "optimiser")
K_DEFAULT = 32


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    ks: tuple[int, ...]
    catalogues: tuple[int, ...]
    texts: int
    """Items of the shop; larger catalogues hold random vectors."""
    rounds: int


FULL = Size((4, 8, 16, 32, 64), (1_000, 10_000, 100_000, 1_000_000), 10_000, 3)
QUICK = Size((4, 8), (200, 70_000), 200, 1)


@dataclass(frozen=True)
class Trainer:
    """One encoder under DeepSpeed."""

    context: Context
    engine: Engine
    encoder: Encoder


@dataclass
class Steps:
    """Repeats one kind of step and remembers where its time went."""

    step: GrpoStep
    k: int
    count: int = 0
    pairs: int = 0

    def __post_init__(self) -> None:
        self.parts: dict[str, list[float]] = {part: [] for part in PARTS}

    def __call__(self) -> float:
        """Seconds of one more step."""
        watch = Stopwatch()
        self.pairs = self.step.run(self.count, self.k, watch)
        self.count += 1
        seconds = watch.seconds()
        for part in PARTS:
            self.parts[part].append(seconds[f"time/{part}"])
        return sum(seconds.values())

    def warm(self) -> None:
        """A step that does not count."""
        self()
        self.__post_init__()

    def cells(self) -> list[str]:
        """Median milliseconds of each part."""
        return [_ms(statistics.median(self.parts[part])) for part in PARTS]


def main(size: Size, save: bool) -> None:
    """Measure, print, and keep."""
    record = Record(__file__, "What Retrieval-GRPO costs")
    with joined_ranks() as ranks, tempfile.TemporaryDirectory() as folder:
        synthesise(Path(folder) / "shop", size.texts, 1_000 if save else 100)
        data = open_dataset(Path(folder) / "shop", need=("items", "queries", "pairs"))
        trainers = {which: _trainer(which, ranks, data, Path(folder)) for which in TOWERS}
        alone = memory.held()
        banks, peaks, rate = _banks(size, trainers["query"], alone)
        _groups(record, size, trainers, banks[size.texts])
        _catalogues(record, size, trainers, banks, peaks, rate)
        _topk(record, size, banks[size.catalogues[-1]])
    record.notes.append(
        f"Queries a step: {TOWERS['query']} (towers: query), {TOWERS['both']} (towers: both); medians of "
        f"{size.rounds} rounds in turn after one step to warm up; encoder all-MiniLM-L6-v2 on titles, "
        f"{torch.get_num_threads()} threads. `forward` includes tokenising; `group` fetches the group's vectors for "
        "the reference scores. With towers: both a run keeps a second bank (the reference's), so its memory grows by "
        "items × D × 4 bytes more."
    )
    record.finish(save)


def _trainer(which: str, ranks: Ranks, data: Dataset, folder: Path) -> Trainer:
    settings = [f"grpo.towers={which}", f"grpo.queries={TOWERS[which]}", "grpo.staleness=0", "encoder.precision=auto"]
    config = load_config(None, [*settings, "encoder.item_template='{title}'"])
    encoder = load_encoder(config.encoder)
    context = new_context(config, ranks, data, folder / which)
    return Trainer(context, Engine(encoder, config.engine, config.grpo.optim, 10_000, ranks), encoder)


def _banks(size: Size, trainer: Trainer, alone: float) -> tuple[dict[int, ItemBank], dict[int, float], float]:
    """A bank a catalogue size; peak GB of a process that holds this bank and searches it; items embedded a second.

    The peak is that above what other banks hold already, added to what the trainers hold `alone`.
    """
    banks, peaks, rate = {}, {}, 0.0
    queries_QD = torch.nn.functional.normalize(torch.randn(TOWERS["query"], trainer.encoder.spec.dimension), dim=1)
    for items in size.catalogues:
        gc.collect()
        memory.forget_peak()
        before = memory.held()
        bank = ItemBank(items, trainer.encoder.spec.dimension)
        if items <= size.texts:
            started = time.perf_counter()
            bank.fill(lambda rows: _embed(trainer, rows), show=False)
            rate = items / (time.perf_counter() - started)
        else:
            random_unit_vectors(bank)
        bank.topk(queries_QD, K_DEFAULT)
        banks[items], peaks[items] = bank, alone + memory.peak() - before
    return banks, peaks, rate


def _embed(trainer: Trainer, rows: np.ndarray) -> torch.Tensor:
    texts = trainer.context.item_texts(rows, trainer.encoder)
    return torch.from_numpy(trainer.encoder.encode(texts, "item"))


def _groups(record: Record, size: Size, trainers: dict[str, Trainer], bank: ItemBank) -> None:
    """The cost of a step against K, on a catalogue of real texts."""
    steps, peaks = {}, {}
    for which, trainer in trainers.items():
        for k in size.ks:
            steps[which, k] = Steps(GrpoStep(trainer.context, trainer.engine, trainer.encoder, bank), k)
            memory.forget_peak()
            steps[which, k].warm()
            peaks[which, k] = memory.peak()
    found = in_turn({f"{which} {k}": one for (which, k), one in steps.items()}, size.rounds)
    totals = {key: statistics.median(found[f"{key[0]} {key[1]}"]) for key in steps}
    rows = [
        [which, str(k), f"{one.pairs:,}", *one.cells(), _ms(totals[which, k]), f"{peaks[which, k]:.2f}"]
        for (which, k), one in steps.items()
    ]
    fits = "; ".join(f"{which}: {_fits(size.ks, [totals[which, k] for k in size.ks])}" for which in trainers)
    record.tables.append(
        Table(
            f"A step against K, {bank.n_items:,} items",
            ["towers", "K", "pairs to judge", *(f"{part}, ms" for part in PARTS), "step, ms", "peak, GB"],
            rows,
            f"Time of a step against K. {fits}. With both towers every distinct item of a group passes through the "
            "encoder with gradient, so K is what a step costs; with the query tower alone K only adds rows to be "
            "fetched, scored and judged. Peak: of the whole process, with every bank of this script in it.",
        )
    )


def _catalogues(
    record: Record,
    size: Size,
    trainers: dict[str, Trainer],
    banks: dict[int, ItemBank],
    peaks: dict[int, float],
    rate: float,
) -> None:
    """The cost of a step against the size of the catalogue, at the default K."""
    k, rows, fits = min(K_DEFAULT, size.ks[-1]), [], []
    for which, trainer in trainers.items():
        steps = {
            f"{items}": Steps(GrpoStep(trainer.context, trainer.engine, trainer.encoder, bank), k)
            for items, bank in banks.items()
        }
        for one in steps.values():
            one.warm()
        totals = in_turn(dict(steps), size.rounds)
        for items, one in zip(banks, steps.values(), strict=True):
            held, embedding = f"{peaks[items]:.2f}", f"{items / rate:,.0f}" + (" *" if items > size.texts else "")
            rows.append(
                [which, f"{items:,}", *one.cells(), _ms(statistics.median(totals[f"{items}"])), held, embedding]
            )
        topk = [statistics.median(one.parts["Top-K"]) for one in steps.values()]
        fits.append(f"{which}, Top-K alone: {_fits(list(banks), topk)}")
    head = ["towers", "items", *(f"{part}, ms" for part in PARTS), "step, ms", "peak, GB", "embed all, s"]
    text = (
        f"K {k}. {'; '.join(fits)}. Only Top-K grows with the catalogue, and only embedding it takes long: "
        f"{rate:,.0f} items/s were measured on the shop's {size.texts:,} items; * extrapolated from that rate. Banks "
        "of more items hold random unit vectors, and with both towers their rows read the shop's texts again. Peak: "
        "what the two trainers hold, plus filling this bank and searching it once."
    )
    record.tables.append(Table("A step against the size of the catalogue", head, rows, text))


def _topk(record: Record, size: Size, bank: ItemBank) -> None:
    """Top-K over the largest bank by the float32 pass and by the bf16 copy: as exact, and how much faster."""
    plain = copy.copy(bank)  # the same vectors, searched another way
    usual, scan.ROUGH_ROWS = scan.ROUGH_ROWS, sys.maxsize
    plain._scan = None
    plain.topk(torch.ones(1, bank.dimension), 1)
    scan.ROUGH_ROWS = usual
    rows, same, ratios = [], True, []
    for count in (1, 16, 64):
        queries_QD = torch.nn.functional.normalize(torch.randn(count, bank.dimension), dim=1)
        ways = {"float32": _timed(plain, queries_QD), "bf16 copy": _timed(bank, queries_QD)}
        same &= all(
            torch.equal(a, b) for a, b in zip(*(b.topk(queries_QD, K_DEFAULT) for b in (plain, bank)), strict=True)
        )
        found = in_turn(ways, max(3, size.rounds))
        ratios.append(ratio(found["float32"], found["bf16 copy"]))
        rows.append([str(count), *(_ms(statistics.median(found[way])) for way in ways), str(ratios[-1])])
    text = (
        f"{bank.n_items:,} × {bank.dimension}, K {K_DEFAULT}. Profiled, four fifths of a float32 search were its "
        "matrix product and most of the rest was picking the best of each chunk's scores. The bank now proposes "
        "candidates by a copy in bf16 where the CPU multiplies that (half as much memory again), re-scores them in "
        "float64, and looks again only at rows that an error bound can't rule out. `float32` is the earlier way, with "
        "today's larger chunks; a CPU without bf16 arithmetic and a GPU still go it."
    )
    record.tables.append(
        Table("Exact Top-K: before and after", ["queries", "float32, ms", "bf16 copy, ms", "ratio"], rows, text)
    )
    record.aims.append(
        Aim(
            "Top-K by the bf16 copy gives the very rows and scores of the float32 pass",
            "equal" if same else "differs",
            same,
        )
    )


def _timed(bank: ItemBank, queries_QD: torch.Tensor) -> Callable[[], float]:
    def search() -> float:
        started = time.perf_counter()
        bank.topk(queries_QD, K_DEFAULT)
        return time.perf_counter() - started

    return search


def _fits(xs: Sequence[int], seconds: Sequence[float]) -> str:
    """The exponent of a power law, and a line, each with its R²."""
    exponent, _, power_r2 = _line(np.log(xs), np.log(seconds))
    slope, intercept, line_r2 = _line(np.asarray(xs, dtype=float), np.asarray(seconds))
    per = f"{slope * 1e6:.3g} µs each" if slope < 1e-4 else f"{slope * 1e3:.3g} ms each"
    return f"∝ x^{exponent:.2f} (R² {power_r2:.3f}); as a line {round(intercept * 1e3)} ms and {per} (R² {line_r2:.3f})"


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - slope * x - intercept
    return float(slope), float(intercept), float(1 - residual.var() / y.var())


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}" if seconds >= 0.01 else f"{seconds * 1e3:.1f}"


if __name__ == "__main__":
    quick = options(__doc__).parse_args().quick
    main(QUICK if quick else FULL, save=not quick)
