"""The fast pass must never be further from the exact score than it says."""

import pytest
import torch

from taoemb.retrieval import scan


def _vectors(count: int, dimension: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.nn.functional.normalize(
        torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed)), dim=1
    )


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("dimension", "scale"), [(1, 1.0), (24, 1.0), (384, 1.0), (384, 37.0)])
def test_no_score_is_further_off_than_the_bound(monkeypatch, rough, dtype, dimension, scale):
    monkeypatch.setattr(scan, "ROUGH_ROWS", 1 if rough else 10**9)
    monkeypatch.setattr(scan, "has_bf16", lambda _device: True)
    stored, queries = _vectors(2000, dimension, 1, scale).to(dtype), _vectors(7, dimension, 2)
    queries[0] = stored[0].float()  # one that is as near as can be
    fast = scan.prepare(stored)
    assert fast.rough == (rough and dtype != torch.float16)
    scores = torch.cat([part for _, part in fast.scores(queries)], dim=1).float()
    exact = queries.double() @ stored.double().T
    for column in range(len(stored)):
        off = (scores[:, column].double() - exact[:, column]).abs()
        assert (off <= fast.error(queries, scores[:, column])).all()


def test_the_copy_in_bf16_is_only_made_where_it_pays(monkeypatch):
    monkeypatch.setattr(scan, "has_bf16", lambda _device: True)
    few = _vectors(100, 8, 3)
    assert scan.prepare(few).vectors_ND is few
    monkeypatch.setattr(scan, "ROUGH_ROWS", 100)
    assert scan.prepare(few).vectors_ND.dtype == torch.bfloat16
    monkeypatch.setattr(scan, "has_bf16", lambda _device: False)
    assert scan.prepare(few).vectors_ND is few


def test_parts_cover_every_row_once():
    rows = torch.arange(10)
    assert [(start, part.tolist()) for start, part in scan.chunks(rows, 2, 8)] == [
        (0, [0, 1, 2, 3]),
        (4, [4, 5, 6, 7]),
        (8, [8, 9]),
    ]
