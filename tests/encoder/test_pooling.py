"""Pooling reads only real tokens, on whichever side the padding stands."""

import pytest
import torch

from taoemb.encoder.pooling import pool

HIDDEN = torch.arange(24, dtype=torch.float32).reshape(2, 4, 3)  # (N, T, D)


@pytest.mark.parametrize("how", ["mean", "cls", "last"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_count(how: str, side: str) -> None:
    real = HIDDEN[:, :3]
    junk = torch.full((2, 2, 3), 1e6)
    ones, zeros = torch.ones(2, 3, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64)
    hidden = torch.cat([junk, real] if side == "left" else [real, junk], dim=1)
    mask = torch.cat([zeros, ones] if side == "left" else [ones, zeros], dim=1)
    assert torch.equal(pool(hidden, mask, how), pool(real, ones, how))


def test_values() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]])
    assert pool(HIDDEN, mask, "mean").tolist() == [[1.5, 2.5, 3.5], [18, 19, 20]]
    assert pool(HIDDEN, mask, "cls").tolist() == [[0, 1, 2], [15, 16, 17]]
    assert pool(HIDDEN, mask, "last").tolist() == [[3, 4, 5], [21, 22, 23]]


def test_sums_in_float32() -> None:
    hidden = torch.full((1, 512, 1), 1.0078125, dtype=torch.bfloat16)
    assert pool(hidden, torch.ones(1, 512, dtype=torch.int64), "mean").item() == 1.0078125


def test_unknown_pooling() -> None:
    with pytest.raises(ValueError, match="max"):
        pool(HIDDEN, torch.ones(2, 4), "max")  # type: ignore[arg-type]
