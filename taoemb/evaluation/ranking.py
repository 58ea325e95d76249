"""Ranks the whole catalogue with each system: what users would see, not a re-ordering of judged candidates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from taoemb.config import Config
from taoemb.data.dataset import Catalogue
from taoemb.encoder.bulk import bulk_embedder
from taoemb.encoder.model import Encoder
from taoemb.evaluation.qrels import Qrels
from taoemb.evaluation.systems import System, encoders
from taoemb.progress import progress
from taoemb.retrieval.bank import ItemBank
from taoemb.retrieval.bm25 import BM25Route

ITEMS_AT_ONCE = 16_384
QUERIES_AT_ONCE = 512
JUDGMENTS_AT_ONCE = 65_536
BM25_PLACES = 1 << 25  # places of BM25 kept for all queries together (256 MiB)


@dataclass(frozen=True)
class Ranking:
    """The catalogue as one system ranks it for Q queries."""

    rows_QK: np.ndarray  # int64, best first; −1: no item
    scores_QK: np.ndarray  # float32 cosines; nan where the system gives none
    judged_scores_J: np.ndarray  # float64, the score of each judgment of the Qrels, however deep it stands
    seconds: float


def rank_all(
    systems: Sequence[System], queries: Sequence[str], items: Catalogue, qrels: Qrels, depth: int, config: Config
) -> dict[str, Ranking]:
    """Exact top `depth` of the catalogue by every system, in the order given.

    Systems that share an item encoder share one embedding of the catalogue; one such embedding is in memory at a time.
    """
    depth = min(depth, len(items))
    found: dict[str, Ranking] = {}
    for key in dict.fromkeys(system.items_key for system in systems):
        alike = [system for system in systems if system.items_key == key]
        if alike[0].kind == "bm25":
            found |= dict.fromkeys((system.name for system in alike), _bm25(queries, items, qrels, depth))
        else:
            found |= _dense(alike, queries, items, qrels, depth, config)
    return {system.name: found[system.name] for system in systems}


def choose_device(wanted: str) -> str:
    """The device that `evaluation.device` asks for."""
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def _dense(
    systems: Sequence[System], queries: Sequence[str], items: Catalogue, qrels: Qrels, depth: int, config: Config
) -> dict[str, Ranking]:
    device = choose_device(config.evaluation.device)
    bank: ItemBank | None = None
    found = {}
    for system in systems:
        started = perf_counter()
        query_encoder, item_encoder = encoders(system, config.encoder, device)
        if bank is None:
            bank = embed_catalogue(item_encoder, items, device)
        del item_encoder
        vectors_QD = torch.from_numpy(query_encoder.encode(list(queries), "query")).to(device)
        rows_QK, scores_QK = _search(bank, vectors_QD, depth, system.name)
        judged_J = _score_judged(bank, vectors_QD, qrels)
        found[system.name] = Ranking(rows_QK, scores_QK, judged_J, perf_counter() - started)
    return found


def embed_catalogue(encoder: Encoder, items: Catalogue, device: str) -> ItemBank:
    """A bank of the whole catalogue, streamed through the encoder."""
    bank = ItemBank(len(items), encoder.spec.dimension, device=device)
    embed, template = bulk_embedder(encoder, "item", len(items)), encoder.item_template
    bank.fill(lambda rows: torch.from_numpy(embed(items.texts(rows, template), None)), batch=ITEMS_AT_ONCE)
    return bank


def _search(bank: ItemBank, vectors_QD: torch.Tensor, depth: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    rows_QK = np.empty((len(vectors_QD), depth), dtype=np.int64)
    scores_QK = np.empty((len(vectors_QD), depth), dtype=np.float32)
    with progress(f"search with {name}", len(vectors_QD)) as bar:
        for part in _parts(len(vectors_QD), QUERIES_AT_ONCE):
            scores, rows = bank.topk(vectors_QD[part], depth)
            rows_QK[part], scores_QK[part] = rows.cpu().numpy(), scores.cpu().numpy()
            bar.advance(len(rows))
    return rows_QK, scores_QK


def _score_judged(bank: ItemBank, vectors_QD: torch.Tensor, qrels: Qrels) -> np.ndarray:
    """The bank's own score (float64 sum, rounded to float32) of each judged pair."""
    scores_J = np.empty(len(qrels.item_rows))
    owners = qrels.owners
    for part in _parts(len(scores_J), JUDGMENTS_AT_ONCE):
        item_vectors = bank.vectors(torch.from_numpy(qrels.item_rows[part])).double()
        query_vectors = vectors_QD[torch.from_numpy(owners[part]).to(vectors_QD.device)].double()
        scores_J[part] = (query_vectors * item_vectors).sum(dim=1).float().cpu().numpy()
    return scores_J


def _bm25(queries: Sequence[str], items: Catalogue, qrels: Qrels, depth: int) -> Ranking:
    """BM25's ranking; a judged item's score is minus its rank, minus the catalogue's size where it was not ranked."""
    started = perf_counter()
    deep = min(len(items), max(depth, BM25_PLACES // max(len(queries), 1)))
    route = BM25Route(items, deep)
    rows_QK = np.empty((len(queries), depth), dtype=np.int64)
    judged_J = np.full(len(qrels.item_rows), -float(len(items)))
    with progress("search with BM25", len(queries)) as bar:
        for i, query in enumerate(queries):
            ranked = route.top([query])[0]
            rows_QK[i] = ranked[:depth]
            mine = slice(qrels.indptr[i], qrels.indptr[i + 1])
            judged_J[mine] = _minus_rank(ranked[ranked >= 0], qrels.item_rows[mine], len(items))
            bar.advance()
    scores_QK = np.full(rows_QK.shape, np.nan, dtype=np.float32)
    return Ranking(rows_QK, scores_QK, judged_J, perf_counter() - started)


def _minus_rank(ranked: np.ndarray, wanted: np.ndarray, missing: int) -> np.ndarray:
    """Minus the place (from 0) of each `wanted` row in `ranked`; −`missing` for one that does not stand there."""
    if not len(ranked):
        return np.full(len(wanted), -float(missing))
    order = np.argsort(ranked)
    place = np.minimum(np.searchsorted(ranked, wanted, sorter=order), len(ranked) - 1)
    return np.where(ranked[order[place]] == wanted, -order[place].astype(np.float64), -float(missing))


def _parts(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
