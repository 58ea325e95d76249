"""The fitted slope must be the slope."""

import pytest
import torch

from benchmarks.grpo_parts import random_unit_vectors
from benchmarks.quality.cost import _fits
from taoemb.retrieval.bank import ItemBank


def test_a_power_law_and_a_line_are_found():
    sizes = [1_000, 10_000, 100_000]
    said = _fits(sizes, [2e-6 * size for size in sizes])
    assert said == "∝ x^1.00 (R² 1.000); as a line 0 ms and 2 µs each (R² 1.000)"
    assert "∝ x^0.50" in _fits(sizes, [size**0.5 for size in sizes])
    assert "as a line 100 ms and 10 ms each" in _fits([4, 8, 16], [0.1 + 0.01 * k for k in (4, 8, 16)])


def test_made_up_vectors_have_length_one_and_differ():
    bank = ItemBank(100, 16)
    random_unit_vectors(bank, batch=40)
    vectors = bank.vectors(torch.arange(100))
    assert vectors.norm(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    assert len(vectors.unique(dim=0)) == 100
