"""The GPU benchmark must run at its first try on a GPU that nobody has here: every part of it runs on the CPU, tiny."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from benchmarks.record import Record
from benchmarks.speed import gpu
from benchmarks.speed.gpu_model import PEAK_TFLOPS, TINY, Meter, Shape, new_encoder


def _tiny_run() -> tuple[Record, list[int]]:
    """What a tiny run finds, and how many rows each save had."""
    record, saved = Record(gpu.__file__, "tiny"), []
    gpu.run(gpu.TINY_PLAN, record, lambda: saved.append(sum(len(table.rows) for table in record.tables)))
    return record, saved


@pytest.fixture(scope="module")
def found() -> tuple[Record, list[int]]:
    """In a process of its own: DeepSpeed joins a process group once in its life."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_tiny_run).result()


@pytest.mark.slow
def test_every_part_finds_something(found):
    record, _ = found
    titles = [table.title for table in record.tables]
    assert titles == [
        "Padding in bulk embedding", "Exact Top-K", "Embedding", "SFT", "Retrieval-GRPO", "Memory by ZeRO stage"
    ]  # fmt: skip
    for table in record.tables:
        assert all(len(row) == len(table.head) for row in table.rows)
    assert {row[-1] for row in record.tables[1].rows} == {"yes"}, "Top-K is exact"
    assert [row[0] for row in record.tables[5].rows] == ["0", "1", "2", "3"]


@pytest.mark.slow
def test_every_row_is_saved_as_soon_as_it_is_found(found):
    record, saved = found
    assert saved == sorted(saved)
    assert saved[-1] == sum(len(table.rows) for table in record.tables)
    assert len(saved) >= saved[-1] - 1  # the two rows on padding are one measurement


@pytest.mark.slow
def test_without_a_known_peak_no_aim_is_claimed(found):
    record, _ = found
    assert record.aims == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_one_line_and_exit_code_2(capsys):
    assert gpu.main([]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err


def test_the_flops_are_those_of_the_layers():
    shape, encoder = Shape(), new_encoder(TINY, torch.device("cpu"))
    linear = [m for m in encoder.backbone.modules() if isinstance(m, torch.nn.Linear)]
    assert TINY.matrix_parameters() == sum(m.weight.numel() for m in linear)
    assert shape.matrix_parameters() == pytest.approx(0.44e9, rel=0.01), "Qwen3-0.6B without its embeddings"
    from torch.utils.flop_counter import FlopCounterMode

    batches = encoder.tokenize(["w1 w2 w3 w4 w5 w6 w7"], "item")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(batches)
    attention = 2 * TINY.layers * TINY.heads * TINY.head_dim * 8 * 8
    counted = counter.get_total_flops()
    assert (
        TINY.forward_flops(8, 64) - attention <= counted <= TINY.forward_flops(8, 64) + attention
    )  # it counts no mask


def test_the_meter_counts_real_tokens_and_the_backward_pass():
    encoder, meter = new_encoder(TINY, torch.device("cpu")), Meter(TINY)
    meter.watch(encoder)
    batches = encoder.tokenize(["w1 w2 w3", "w1"], "item", 1)
    encoder(batches)
    with torch.no_grad():
        encoder(batches)
    assert (meter.tokens, meter.padded) == (2 * 6, 2 * 8)  # a word is a token, and the end is one
    assert meter.flops == 4 * TINY.forward_flops(6, 4 * 4 + 2 * 2)


def test_names_of_cards_are_told_apart():
    names = {"NVIDIA H100 PCIe": 756, "NVIDIA H100 80GB HBM3": 989, "NVIDIA L40S": 362, "NVIDIA L4": 121}
    for name, tflops in names.items():
        assert next(value for part, value in PEAK_TFLOPS.items() if part in name) == tflops
