"""Bring a collection to hold a catalogue: embed what is new or changed, delete what is gone, touch nothing else."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from taoemb.data.dataset import Catalogue
from taoemb.errors import InputError
from taoemb.progress import progress
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.registry import CollectionEntry
from taoemb.retrieval.rows import ItemRows, fingerprint, spans, with_vectors

if TYPE_CHECKING:
    from taoemb.config import EncoderConfig
    from taoemb.encoder.bulk import Embed
    from taoemb.encoder.release import Release

Fill = Callable[[MilvusStore, str, ItemRows, np.ndarray], tuple[int, int]]
"""Brings a collection to hold exactly these rows, given their hashes; returns how many it (embedded, removed)."""

_LOOKED_UP = 1_000_000  # stored ids compared with the catalogue at once


def upsert_changes(release: "Release", encoder: "EncoderConfig | None" = None) -> Fill:
    """Embed and upsert the items that are new or changed, and delete those that left the catalogue.

    `encoder` says how to embed in bulk (precision, backend, batch), not with what.
    """

    def fill(store: MilvusStore, name: str, rows: ItemRows, hashes: np.ndarray) -> tuple[int, int]:
        changed, gone = _compare(store, name, rows.catalogue, hashes)
        _check_removal(store, name, len(gone))
        digest = release.manifest.item_encoder_digest
        record(store, CollectionEntry(name, digest, "filling", fingerprint(hashes)))
        if changed.any():
            fields = store.fields(name, digest) or frozenset()
            _upsert(store, name, rows, changed, fields, item_embedder(release, encoder, int(changed.sum())))
        store.delete(name, gone)
        store.flush(name)
        return int(changed.sum()), len(gone)

    return fill


def create(store: MilvusStore, name: str, release: "Release", rows: ItemRows) -> None:
    """Make the empty collection of a release's item encoder."""
    manifest = release.manifest
    store.create_collection(name, manifest.dimension, manifest.metric, rows.signals, manifest.item_encoder_digest)


def item_embedder(release: "Release", config: "EncoderConfig | None", expected: int) -> "Embed":
    """What embeds about `expected` items with the release's item encoder; adapters of `config` belong to training."""
    from taoemb.encoder.bulk import bulk_embedder

    config = config and config.model_copy(update={"lora": None})
    return bulk_embedder(release.item_encoder(device=fastest_device(), config=config), "item", expected)


def embed(
    rows: ItemRows, parts: Iterable[tuple[int, int]], embedder: "Embed", wanted_N: np.ndarray | None = None
) -> Iterator[tuple[list[dict[str, Any]], np.ndarray]]:
    """(entities, vectors (n, D)) of the rows start … stop - 1 of each part; `wanted_N` (bool) leaves rows out."""
    for start, stop in parts:
        read = rows.read(start, stop)
        if wanted_N is not None:
            read = [row for row, wanted in zip(read, wanted_N[start:stop], strict=True) if wanted]
        if read:
            yield [entity for entity, _ in read], embedder([text for _, text in read], None)


def record(store: MilvusStore, state: CollectionEntry) -> None:
    """Write down how far a collection is."""
    with store.talking(f"record the state of {state.collection}"):
        store.registry.write([state])


def fastest_device() -> str:
    """Where to embed in bulk: a GPU when there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _compare(store: MilvusStore, name: str, catalogue: Catalogue, hashes: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Which rows are missing or differ in the store (N,) bool, and the stored ids that the catalogue lacks."""
    changed, gone = np.ones(len(hashes), dtype=bool), []
    for ids, stored in _gathered(store.hashes(name), _LOOKED_UP):
        found = catalogue.rows_of(ids)
        here = found >= 0
        changed[found[here]] = hashes[found[here]] != stored[here]
        gone += [ids[at] for at in np.flatnonzero(~here)]
    return changed, gone


def _gathered(parts: Iterable[tuple[list[str], np.ndarray]], size: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """The same pairs in parts of about `size`: a look-up in the catalogue costs one pass over it."""
    ids: list[str] = []
    hashes: list[np.ndarray] = []
    for some, theirs in parts:
        ids += some
        hashes.append(theirs)
        if len(ids) >= size:
            yield ids, np.concatenate(hashes)
            ids, hashes = [], []
    if ids:
        yield ids, np.concatenate(hashes)


def _check_removal(store: MilvusStore, name: str, gone: int) -> None:
    stored = store.count(name)
    if gone > store.config.max_removed * stored:
        raise InputError(
            f"publishing would remove {gone:,} of {stored:,} items from {name}, which is searched; is --data right? "
            f"If so, --set milvus.max_removed=1"
        )


def _upsert(
    store: MilvusStore, name: str, rows: ItemRows, changed: np.ndarray, fields: frozenset[str], embedder: "Embed"
) -> None:
    """Embed the changed rows and write them; one batch is written while the next is embedded."""
    touched = (part for part in spans(0, len(rows), store.config.batch) if changed[slice(*part)].any())
    writing: Future[None] | None = None
    with ThreadPoolExecutor(1) as writer, progress("embed and publish", int(changed.sum())) as bar:
        for entities, vectors in embed(rows, touched, embedder, changed):
            if writing is not None:
                writing.result()
            kept = [{field: value for field, value in entity.items() if field in fields} for entity in entities]
            writing = writer.submit(store.upsert, name, with_vectors(kept, vectors))
            bar.advance(len(entities))
        if writing is not None:
            writing.result()
