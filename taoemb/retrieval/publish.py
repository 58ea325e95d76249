"""Publish a release: its catalogue embedded into a collection, verified, then bound and made active.

There is no journal: what is already stored, with the hash of what it was made from, is the progress. An interrupted
publish goes on where it stopped, a new catalogue costs its changed items, a query-only release costs nothing.
"""

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taoemb.config import EncoderConfig, MilvusConfig
from taoemb.data.dataset import Catalogue
from taoemb.encoder.manifest import collection_name
from taoemb.errors import TaoembError
from taoemb.retrieval.fill import Fill, create, record, upsert_changes
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.registry import CollectionEntry, ReleaseEntry, now
from taoemb.retrieval.rows import fingerprint, open_rows
from taoemb.retrieval.spotcheck import spot_recall

if TYPE_CHECKING:
    from taoemb.encoder.release import Release


@dataclass(frozen=True)
class Published:
    """What publishing did."""

    release: str
    collection: str
    alias: str
    active: bool
    items: int
    embedded: int
    """Items that were embedded now; 0 when the collection already held this catalogue."""
    removed: int
    recall: float | None
    """Spot recall@10 against exact search; None when nothing changed since it was measured."""
    seconds: float


def publish(
    release: "Release",
    data: Path,
    config: MilvusConfig,
    activate: bool = True,
    *,
    encoder: EncoderConfig | None = None,
    fill: Fill | None = None,
) -> Published:
    """Bind `release` to a verified collection of the items in `data`, and make it the active one.

    The alias moves only after the row count and the spot recall were checked; on failure everything that could be
    searched before can be searched as before. With `activate=False` the release is bound but not active. `encoder` says
    how to embed in bulk (precision, backend, batch), not with what; `fill` puts the rows into the store (default: embed
    what is new or changed and upsert it).
    Raises InputError for a bad dataset or another encoder's collection, TaoembError when verification fails.
    """
    started = time.monotonic()
    manifest = release.manifest
    rows = open_rows(data, manifest.item_template)
    name = collection_name(config.prefix, manifest.item_encoder_digest)
    hashes = rows.hashes()
    state = CollectionEntry(name, manifest.item_encoder_digest, "filling", fingerprint(hashes))
    with MilvusStore(config) as store:
        if activate:
            store.check_alias()  # before anything is embedded
        embedded, removed, recall = 0, 0, None
        if not _is_ready(store, state, len(rows)):
            if store.fields(name, manifest.item_encoder_digest) is None:
                create(store, name, release, rows)
            embedded, removed = (fill or upsert_changes(release, encoder))(store, name, rows, hashes)
            recall = verify(store, name, rows.catalogue, manifest.metric)
            record(store, dataclasses.replace(state, status="ready"))
        entry = _bind(store, release, name, len(rows))
        if activate:
            entry = store.activate(entry)
    _note_in_folder(release, name)
    seconds = time.monotonic() - started
    active = entry.status == "active"
    return Published(entry.digest, name, config.alias, active, len(rows), embedded, removed, recall, seconds)


def verify(store: MilvusStore, name: str, catalogue: Catalogue, metric: str) -> float:
    """Check the row count and the spot recall of a filled collection; returns the recall. Raises TaoembError."""
    count = store.count(name)
    if count != len(catalogue):
        raise TaoembError(
            f"collection {name} holds {count:,} rows for {len(catalogue):,} items; the alias has not moved; "
            f"publish again"
        )
    recall = spot_recall(store, name, catalogue, metric)
    if recall < store.config.min_recall:
        raise TaoembError(
            f"collection {name}: spot recall@10 is {recall:.3f}, below milvus.min_recall {store.config.min_recall}; "
            f"the alias has not moved; raise milvus.search_ef or milvus.hnsw_ef_construction"
        )
    return recall


def _is_ready(store: MilvusStore, state: CollectionEntry, items: int) -> bool:
    """Whether the collection already holds exactly this catalogue, verified."""
    known = store.registry.collection(state.collection)
    if known != dataclasses.replace(state, status="ready"):
        return False
    if store.fields(state.collection, state.item_encoder_digest) is None:
        return False
    return store.count(state.collection) == items


def _bind(store: MilvusStore, release: "Release", collection: str, items: int) -> ReleaseEntry:
    """Write the release's row; one that stands keeps its place in the history."""
    manifest, alias = release.manifest, store.config.alias
    known = store.registry.find(manifest.digest, alias)
    entry = ReleaseEntry(
        digest=manifest.digest,
        item_encoder_digest=manifest.item_encoder_digest,
        collection=collection,
        alias=alias,
        status=known.status if known is not None else "staged",
        location=str(release.path.resolve()),
        items=items,
        published_at=now(),
        activated_at=known.activated_at if known is not None else "",
        previous=known.previous if known is not None else None,
        parent=manifest.parent,
        manifest=dataclasses.asdict(manifest),
    )
    with store.talking("record the release"):
        store.registry.write([entry])
    return entry


def _note_in_folder(release: "Release", collection: str) -> None:
    """Name the collection in release.json; a read-only folder stays as it is, the registry knows."""
    from taoemb.encoder.release import bind_collection

    if release.manifest.collection != collection and os.access(release.path, os.W_OK):
        bind_collection(release, collection)
