"""The bank must give the exact Top-K, the same for any number of ranks, whatever the chunking."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from taoemb.errors import InputError, TaoembError
from taoemb.retrieval import scan
from taoemb.retrieval.bank import ItemBank


def _bank(vectors: np.ndarray, **options) -> ItemBank:
    bank = ItemBank(len(vectors), vectors.shape[1], **options)
    bank.fill(lambda rows: torch.from_numpy(vectors[rows]), batch=7, show=False)
    return bank


def _by_full_sort(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    rows = np.stack([np.lexsort((np.arange(len(vectors)), -row))[:k] for row in scores])
    return np.take_along_axis(scores, rows, axis=1), rows


def _catalogue(items: int, dimension: int, seed: int, copies: int = 1) -> np.ndarray:
    """Unit vectors; each stands `copies` times (shops sell the same title in many colours)."""
    distinct = np.random.default_rng(seed).normal(size=(-(-items // copies), dimension)).astype(np.float32)
    distinct /= np.linalg.norm(distinct, axis=1, keepdims=True)
    return np.tile(distinct, (copies, 1))[:items]


@pytest.fixture(params=["float32", "rough"])
def fast_pass(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of proposals, whatever this machine multiplies and however few the rows are."""
    if request.param == "rough":
        _always_rough(monkeypatch)
    return request.param


def _always_rough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "ROUGH_ROWS", 1)
    monkeypatch.setattr(scan, "has_bf16", lambda _device: True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), items=st.integers(1, 120), dimension=st.integers(1, 6), queries=st.integers(1, 4))
def test_topk_is_a_full_stable_sort(fast_pass, data, items, dimension, queries):
    # Small integers make many equal scores and zeros of both signs.
    whole = st.integers(-3, 3).map(float)
    vectors = data.draw(arrays(np.float32, (items, dimension), elements=whole))
    asked = data.draw(arrays(np.float32, (queries, dimension), elements=whole))
    k = data.draw(st.integers(1, items))
    scores, rows = _bank(vectors).topk(torch.from_numpy(asked), k)
    expected_scores, expected_rows = _by_full_sort(vectors, asked, k)
    np.testing.assert_array_equal(rows.numpy(), expected_rows)
    np.testing.assert_array_equal(scores.numpy(), expected_scores)
    assert scores.dtype == torch.float32
    assert rows.dtype == torch.int64


@pytest.mark.parametrize("copies", [1, 60])
@pytest.mark.parametrize("budget", [1 << 24, 4096, 1])
def test_topk_does_not_depend_on_chunks(fast_pass, monkeypatch, copies, budget):
    # 60 equal items straddle any k below 60: more than the spare candidates can hold.
    monkeypatch.setattr(scan, "SCAN_ELEMENTS", budget)
    vectors, queries = _catalogue(400, 24, 1, copies), _catalogue(5, 24, 2)
    scores, rows = _bank(vectors).topk(torch.from_numpy(queries), 10)
    expected_scores, expected_rows = _by_full_sort(vectors, queries, 10)
    np.testing.assert_array_equal(rows.numpy(), expected_rows)
    np.testing.assert_array_equal(scores.numpy(), expected_scores)


def test_topk_of_shards_with_a_coarse_matmul_is_still_exact():
    vectors, queries = _catalogue(500, 32, 3), _catalogue(6, 32, 4)
    torch.set_float32_matmul_precision("medium")
    try:
        _, rows = _bank(vectors).topk(torch.from_numpy(queries), 20)
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(rows.numpy(), _by_full_sort(vectors, queries, 20)[1])


def test_bf16_storage_ranks_by_the_stored_vectors(fast_pass):
    vectors, queries = _catalogue(300, 16, 5), _catalogue(4, 16, 6)
    bank = _bank(vectors, dtype=torch.bfloat16)
    stored = bank.vectors(torch.arange(300)).numpy()
    np.testing.assert_allclose(stored, vectors, atol=4e-3)
    np.testing.assert_array_equal(bank.topk(torch.from_numpy(queries), 15)[1], _by_full_sort(stored, queries, 15)[1])


def test_topk_under_autocast_scores_in_float32():
    vectors, queries = _catalogue(200, 16, 7), torch.from_numpy(_catalogue(3, 16, 8))
    bank = _bank(vectors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, rows = bank.topk(queries, 5)
    expected = bank.topk(queries, 5)
    assert torch.equal(scores, expected[0])
    assert torch.equal(rows, expected[1])


def test_topk_gives_no_gradient_and_leaves_the_queries_alone():
    queries = torch.from_numpy(_catalogue(2, 8, 9)).requires_grad_()
    scores, _ = _bank(_catalogue(50, 8, 10)).topk(queries, 3)
    assert not scores.requires_grad
    assert queries.requires_grad


def test_age_counts_steps_since_the_fill():
    vectors = _catalogue(9, 4, 11)
    bank = _bank(vectors)
    bank.tick()
    bank.tick()
    assert bank.age == 2
    bank.set_rows(torch.tensor([3]), torch.ones(1, 4))
    assert bank.age == 2
    bank.fill(lambda rows: torch.from_numpy(vectors[rows]), show=False)
    assert bank.age == 0


def test_set_rows_replaces_only_these_and_the_last_of_a_repeated_row():
    vectors = _catalogue(20, 4, 12)
    bank = _bank(vectors)
    bank.topk(torch.ones(1, 4), 1)
    new = torch.arange(12.0).reshape(3, 4)
    bank.set_rows(torch.tensor([5, 17, 5]), new)
    expected = vectors.copy()
    expected[17], expected[5] = new[1], new[2]
    np.testing.assert_array_equal(bank.vectors(torch.arange(20).reshape(4, 5)).numpy(), expected.reshape(4, 5, 4))
    assert bank.topk(torch.ones(1, 4), 1)[1].item() == 5


def test_a_rough_search_sees_what_was_replaced(monkeypatch):
    _always_rough(monkeypatch)
    bank = _bank(_catalogue(500, 8, 12))
    bank.topk(torch.ones(1, 8), 1)
    bank.set_rows(torch.tensor([321]), torch.ones(1, 8))
    assert bank.topk(torch.ones(1, 8), 1)[1].item() == 321


@pytest.mark.parametrize("spread", [1e-1, 1e-3, 1e-6])
def test_vectors_closer_than_bf16_can_tell_are_still_sorted(monkeypatch, spread):
    _always_rough(monkeypatch)
    vectors = _catalogue(1, 32, 17) + spread * _catalogue(3000, 32, 18)
    queries = _catalogue(4, 32, 19)
    scores, rows = _bank(vectors).topk(torch.from_numpy(queries), 30)
    expected_scores, expected_rows = _by_full_sort(vectors, queries, 30)
    np.testing.assert_array_equal(rows.numpy(), expected_rows)
    np.testing.assert_array_equal(scores.numpy(), expected_scores)


def test_bad_calls_are_refused():
    bank = ItemBank(5, 3)
    with pytest.raises(TaoembError, match="empty"):
        bank.topk(torch.ones(1, 3), 1)
    with pytest.raises(InputError, match="k=6"):
        bank.topk(torch.ones(1, 3), 6)
    with pytest.raises(TaoembError, match="item row 4 is not finite"):
        bank.fill(lambda rows: torch.tensor(np.where(rows == 4, np.nan, 1.0))[:, None].expand(-1, 3), show=False)
    with pytest.raises(TaoembError, match="3 dimensions"):
        bank.fill(lambda rows: torch.ones(len(rows), 4), show=False)
    with pytest.raises(TaoembError, match="query vector is not finite"):
        _bank(_catalogue(5, 3, 1)).topk(torch.full((1, 3), torch.inf), 1)
    with pytest.raises(InputError, match="1 to 2"):
        ItemBank(0, 3)


def test_saved_shards_load_into_any_number_of_ranks(tmp_path: Path):
    vectors = _catalogue(11, 4, 13)
    for rank in range(3):
        bank = _bank(vectors, rank=rank, world_size=3)
        bank.tick()
        bank.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"bank-0000{r}-of-00003.safetensors" for r in range(3)]
    single = ItemBank(11, 4)
    single.load(tmp_path)
    np.testing.assert_array_equal(single.vectors(torch.arange(11)).numpy(), vectors)
    assert single.age == 1


def test_loading_another_or_a_partial_bank_is_refused(tmp_path: Path):
    _bank(_catalogue(10, 4, 14), rank=0, world_size=2).save(tmp_path)
    with pytest.raises(InputError, match="10 items x 4, expected 12 x 4"):
        ItemBank(12, 4).load(tmp_path)
    with pytest.raises(InputError, match="holds 5 of this rank's 10"):
        ItemBank(10, 4).load(tmp_path)


RANK_CASES = [(301, 12, 1), (300, 12, 50), (2, 2, 1), (1, 1, 1)]  # items, k, copies; the last leaves a shard empty


def _case(items: int, copies: int) -> tuple[np.ndarray, np.ndarray]:
    return _catalogue(items, 16, 15, copies), _catalogue(6, 16, 16)


def _on_rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    try:
        for items, k, copies in RANK_CASES:
            vectors, queries = _case(items, copies)
            bank = _bank(vectors, rank=rank, world_size=world)
            scores, rows = bank.topk(torch.from_numpy(np.array_split(queries, world)[rank]), k)
            fetched = bank.vectors(rows)
            # each rank replaces one row that the other owns
            bank.set_rows(torch.tensor([items - 1 if rank == 0 else 0]), torch.full((1, 16), 1.0 + rank))
            ends = bank.vectors(torch.tensor([0, items - 1]))
            np.savez(f"{folder}/{items}-{rank}.npz", scores=scores, rows=rows, fetched=fetched, ends=ends)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two gloo processes answer to every case."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(_on_rank, (2, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize(("items", "k", "copies"), RANK_CASES)
def test_two_ranks_answer_like_one(two_ranks: Path, items: int, k: int, copies: int):
    vectors, queries = _case(items, copies)
    scores, rows = _bank(vectors).topk(torch.from_numpy(queries), k)
    parts = [np.load(two_ranks / f"{items}-{rank}.npz") for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate([part["rows"] for part in parts]), rows.numpy())
    np.testing.assert_array_equal(np.concatenate([part["scores"] for part in parts]), scores.numpy())
    for part in parts:
        np.testing.assert_array_equal(part["fetched"], vectors[part["rows"]])
        np.testing.assert_array_equal(part["ends"], [[2.0] * 16, [1.0 if items > 1 else 2.0] * 16])
