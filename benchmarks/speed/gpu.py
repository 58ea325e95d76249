"""How fast a GPU trains and embeds with a decoder of Qwen3-Embedding-0.6B's shape: tokens/s, MFU, memory, Top-K.

    make bench-gpu                                              one GPU, under ten minutes
    torchrun --nproc-per-node 8 -m benchmarks.speed.gpu         several: ZeRO shards over them
    python -m benchmarks.speed.gpu --tiny                       every part on a CPU with a tiny model, to try the code

Weights are random and texts are made up (`gpu_model.py`): nothing is downloaded. Each part is saved as soon as it is
measured, so that an interrupted run keeps what it has. MFU is useful work (`Shape.forward_flops`: real tokens only, the
backward pass as two forward passes, nothing for what is computed again) over the card's dense bf16 peak.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.grpo_parts import GrpoStep, new_context, random_unit_vectors
from benchmarks.record import Record
from benchmarks.speed.gpu_bench import SPEED_HEAD, TINY_PLAN, Bench, Plan, Speed, free, gigabytes, percent
from benchmarks.speed.gpu_model import Meter, peak_flops, texts, write_shop
from taoemb.data.dataset import open_dataset
from taoemb.encoder.batching import bucket_by_tokens
from taoemb.encoder.model import TOKENS_PER_BATCH, Kind
from taoemb.retrieval.bank import ItemBank
from taoemb.training.distributed import joined_ranks
from taoemb.training.engine import Engine
from taoemb.training.sft import SFT
from taoemb.training.timing import Stopwatch


def padding(bench: Bench) -> None:
    """Share of padding in bulk batches, sorted by length and as the texts come."""
    encoder, _ = bench.encoder()
    rows = []
    kinds: tuple[tuple[Kind, int], ...] = (("item", 64), ("query", 8))
    for kind, words in kinds:
        came = texts(bench.plan.bulk_texts, words, 128 if kind == "item" else 64, 3)
        batches = encoder.tokenize(came, kind)
        lengths = np.empty(len(came), dtype=np.int64)
        for batch in batches:
            lengths[batch.order] = batch.mask_NT.sum(1).numpy()
        budget = TOKENS_PER_BATCH["cuda"]
        size = max(1, budget // int(lengths.max()))
        unsorted = [np.arange(at, min(at + size, len(lengths))) for at in range(0, len(lengths), size)]
        shares = [_waste(lengths, parts) for parts in (bucket_by_tokens(lengths, budget), unsorted)]
        rows.append([kind, f"{lengths.mean():.0f}", *map(percent, shares)])
    head = ["texts", "mean tokens", "sorted by length", "as they come"]
    text = f"Share of padded tokens in batches of at most {TOKENS_PER_BATCH['cuda']:,} tokens."
    bench.table("Padding in bulk embedding", head, rows, text)


def _waste(lengths: np.ndarray, parts: list[np.ndarray]) -> float:
    return 1 - int(lengths.sum()) / sum(len(part) * int(lengths[part].max()) for part in parts)


def top_k(bench: Bench) -> None:
    """Exact Top-K over a bank of random unit vectors that fills a good part of the card, checked in float64."""
    rows: list[list[str]] = []
    for dtype in bench.plan.bank_dtypes:
        for row in _searches(bench, dtype):
            rows.append(row)
            head = ["stored as", "items", "queries", "ms", "queries/s", "bank, GB", "peak, GB", "exact"]
            text = f"{bench.plan.bank[1]} dimensions, K {bench.plan.k}; queries a rank."
            bench.table("Exact Top-K", head, rows, text)


def _searches(bench: Bench, dtype: torch.dtype) -> Iterator[list[str]]:
    (items, dimension), ranks, k = bench.plan.bank, bench.ranks, bench.plan.k
    free(ranks.device)
    bank = ItemBank(items, dimension, rank=ranks.rank, world_size=ranks.world_size, dtype=dtype, device=ranks.device)
    random_unit_vectors(bank, seed=ranks.rank)
    free(ranks.device)
    exact = _is_exact(bank, k)
    for queries in (1, 64, 256):
        asked_QD = _unit(queries, dimension, ranks.device)
        speed = bench.steps(partial(_search, bank, asked_QD, k), Meter(bench.plan.shape))
        cells = [f"{speed.step_s * 1e3:,.1f}", f"{queries * ranks.world_size / speed.step_s:,.0f}"]
        memory = [f"{items * dimension * dtype.itemsize / 1e9:.1f}", gigabytes(speed.memory_gb)]
        yield [str(dtype).removeprefix("torch."), f"{items:,}", str(queries), *cells, *memory, exact]


def _search(bank: ItemBank, queries_QD: torch.Tensor, k: int, _number: int) -> None:
    bank.topk(queries_QD, k)


def _is_exact(bank: ItemBank, k: int) -> str:
    """Four queries against a sort of all scores in float64 (alone on one rank only)."""
    if bank.world_size > 1:
        return "not checked"
    queries_QD = _unit(4, bank.dimension, bank.device)
    scores_QK, _ = bank.topk(queries_QD, k)
    best = torch.empty(4, 0, dtype=torch.float64, device=bank.device)
    for start in range(0, bank.n_items, 500_000):
        part = torch.arange(start, min(start + 500_000, bank.n_items), device=bank.device)
        found = queries_QD.double() @ bank.vectors(part).double().T
        best = torch.cat([best, found], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return "yes" if torch.equal(scores_QK, best.float()) else "NO"


def embed(bench: Bench) -> None:
    """Bulk embedding: the passes alone, and tokenising and all."""
    rows: list[list[str]] = []
    found: dict[str, Speed] = {}
    for compiled in (False, True) if bench.plan.compiled else (False,):
        for name, speed in _embeddings(bench, compiled):
            found[name] = speed
            rows.append([name, *speed.cells()])
            bench.table("Embedding", ["how", *SPEED_HEAD], rows, "Items of about 64 tokens; bf16 under autocast.")
    bench.aim("Embedding", 0.55, found, "eager and compiled layers, with and without tokenising (see the table)")


def _embeddings(bench: Bench, compiled: bool) -> Iterator[tuple[str, Speed]]:
    free(bench.ranks.device)
    encoder, meter = bench.encoder(compiled)
    asked = texts(bench.plan.bulk_texts, 64, 128, 4)
    batches = encoder.tokenize(asked, "item")

    def alone(_number: int) -> None:
        with torch.no_grad(), torch.autocast(bench.ranks.device.type, torch.bfloat16):
            encoder(batches)

    def whole(_number: int) -> None:
        with torch.no_grad():
            meter.add(batches)  # `encode` calls the backbone itself
        encoder.encode(asked, "item")

    how = "compiled" if compiled else "eager"
    yield f"{how}, passes alone", bench.steps(alone, meter)
    yield f"{how}, with tokenising", bench.steps(whole, meter)


def sft(bench: Bench) -> None:
    """Supervised steps of the library's own objective, the data path included."""
    plan = bench.plan
    kinds = [("bf16-autocast", False), ("bf16", False)] + ([("bf16", True)] if plan.compiled else [])
    rows, found = [], {}
    for precision, compiled in kinds:
        name = f"{precision}, {'compiled' if compiled else 'eager'}"
        measure = partial(_sft, bench, compiled, f"engine.precision={precision}")
        queries, found[name] = _fitting(bench, plan.sft_queries[compiled], measure)
        rows.append([name, str(queries), *found[name].cells()])
        head = ["how", "queries a rank", *SPEED_HEAD]
        bench.table("SFT", head, rows, "As many random negatives as queries; items of about 64 tokens; whole steps.")
    bench.aim("SFT", 0.40, found, "autocast and bf16 weights, eager and compiled layers (see the table)")


def _sft(bench: Bench, compiled: bool, setting: str, queries: int) -> Speed:
    free(bench.ranks.device)
    total = queries * bench.ranks.world_size
    config = bench.config(f"sft.queries={total}", f"sft.random_negatives={total}", "sft.steps=1000000", setting)
    encoder, meter = bench.encoder(compiled)
    objective = SFT(new_context(config, bench.ranks, bench.data, bench.folder), config.sft, encoder)
    with closing(objective.engine):
        return bench.steps(objective.step, meter)


def zero(bench: Bench) -> None:
    """What each ZeRO stage keeps on a rank."""
    rows = []
    for stage in (0, 1, 2, 3):
        speed = _sft(bench, False, f"engine.zero_stage={stage}", bench.plan.zero_queries)
        rows.append([str(stage), *speed.cells()])
        ranks = bench.ranks.world_size
        text = f"SFT, {bench.plan.zero_queries} queries a rank, bf16, eager, {ranks} rank(s): " + (
            "alone there is nothing to shard." if ranks == 1 else "weights and states are sharded over them."
        )
        bench.table("Memory by ZeRO stage", ["stage", *SPEED_HEAD], rows, text)


def grpo(bench: Bench) -> None:
    """Retrieval-GRPO steps with a judge that costs nothing, for both towers and for the query tower alone."""
    rows, found = [], {}
    for which, most in (("query", bench.plan.query_queries), ("both", bench.plan.both_queries)):
        queries, speed = _fitting(bench, most, partial(_grpo, bench, which))
        found[f"towers: {which}"] = speed
        rows.append([which, str(queries), str(bench.plan.k), *speed.cells()])
        how = "compiled" if bench.plan.compiled else "eager"
        text = f"bf16, {how}; the bank holds random vectors; a step has its Top-K in it, and no judging."
        bench.table("Retrieval-GRPO", ["towers", "queries a rank", "K", *SPEED_HEAD], rows, text)
    bench.aim("Retrieval-GRPO", 0.40, found, "both towers and the query tower alone (see the table)")


def _grpo(bench: Bench, which: str, queries: int) -> Speed:
    ranks, k = bench.ranks, bench.plan.k
    free(ranks.device)
    config = bench.config(f"grpo.towers={which}", f"grpo.queries={queries * ranks.world_size}", f"grpo.k={k}")
    encoder, meter = bench.encoder(bench.plan.compiled)
    size = (len(bench.data.items), encoder.spec.dimension)
    bank = ItemBank(*size, rank=ranks.rank, world_size=ranks.world_size, device=ranks.device)
    random_unit_vectors(bank, seed=ranks.rank)
    engine = Engine(encoder, config.engine, config.grpo.optim, 1_000_000, ranks)
    step = GrpoStep(new_context(config, ranks, bench.data, bench.folder), engine, encoder, bank)
    with closing(engine):
        return bench.steps(lambda number: step.run(number, k, Stopwatch()), meter)


def _fitting(bench: Bench, queries: int, measure: Callable[[int], Speed]) -> tuple[int, Speed]:
    """The measurement at `queries`, or at half as many as often as the card's memory asks for."""
    while True:
        try:
            return queries, measure(queries)
        except torch.cuda.OutOfMemoryError:
            if bench.ranks.world_size > 1 or queries == 1:  # other ranks would wait for this one
                raise
        print(f"{queries} queries do not fit; trying {queries // 2}", flush=True)
        free(bench.ranks.device)
        queries //= 2


def _unit(count: int, dimension: int, device: torch.device) -> torch.Tensor:
    generator = torch.Generator(device).manual_seed(count)
    return torch.nn.functional.normalize(torch.randn(count, dimension, generator=generator, device=device), dim=1)


PARTS = (padding, top_k, embed, sft, grpo, zero)  # ZeRO last: DeepSpeed does not let go of all that stage 3 holds


def run(plan: Plan, record: Record, save: Callable[[], None]) -> None:
    """All parts, one after the other; `save` is called whenever something was found."""
    with joined_ranks() as ranks, tempfile.TemporaryDirectory() as folder:
        name, peak = peak_flops(ranks.device)
        record.notes.append(
            f"{ranks.world_size} rank(s) on {name}; peak assumed: "
            + ("none known, so no MFU" if peak is None else f"{peak / 1e12:.0f} TFLOP/s dense bf16")
            + f". FLOPs of a forward pass: 2 × {plan.shape.matrix_parameters():,} weights × tokens + 2 × layers × "
            "heads × head dimension × Σ length² (causal attention); training: 3 times that. Real tokens only, so "
            "padding lowers MFU. Numbers are those of one rank."
        )
        shop = write_shop(Path(folder) / "shop", plan.training_items, max(64, plan.training_items // 10))
        data = open_dataset(shop, need=("items", "queries", "pairs"))
        bench = Bench(plan, ranks, data, Path(folder) / "run", record, save)
        for part in PARTS:
            part(bench)


def main(arguments: list[str]) -> int:
    """Exit code 2 without a CUDA device."""
    tiny = "--tiny" in arguments
    if not tiny and not torch.cuda.is_available():
        print("benchmarks.speed.gpu: needs a CUDA device (--tiny tries the code on a CPU)", file=sys.stderr)
        return 2
    record = Record(__file__, "One GPU: tokens/s, MFU, memory, exact Top-K")
    plan = TINY_PLAN if tiny else Plan()
    run(plan, record, (lambda: None) if tiny else (lambda: print(record.save(), flush=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
