"""The vector store: Milvus Lite in a file, or a Milvus server, behind one gate.

Every search names the release whose query encoder made the vector. A release that is not bound to the collection is
refused here and nowhere else, so no path around the check exists.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusException
from pymilvus.client.types import LoadState

from taoemb.config import MilvusConfig
from taoemb.errors import InputError, TaoembError
from taoemb.limits import ANSWERS, ID_BYTES
from taoemb.retrieval.connection import Connection
from taoemb.retrieval.expressions import after, among, as_sent
from taoemb.retrieval.registry import Registry, ReleaseEntry, now
from taoemb.retrieval.rows import TEXT_BYTES

OWNER = "taoemb.item_encoder"  # collection property: digest of the item encoder that embedded it
_PAGE = 4096
_NOT_LOADED = 101  # Milvus' code of a collection that is not loaded
SHOWN = ("title", "brand", "category", "price")


class NotLoaded(TaoembError):
    """The collection is there and Milvus has not loaded it, or forgot that it had: load it and ask again."""


@dataclass(frozen=True)
class Hit:
    """One answer of a search."""

    item_id: str
    score: float
    title: str | None
    brand: str | None
    category: str | None
    price: float | None


class MilvusStore:
    """An open vector store (a context manager). Failures of Milvus are TaoembErrors of one line."""

    def __init__(self, config: MilvusConfig) -> None:
        self.config = config
        self._connection = Connection(config)
        self.client, self.lite = self._connection.client, self._connection.lite
        self._bound: dict[str, ReleaseEntry] = {}
        try:
            with self.talking("read the registry"):
                self.registry = Registry(self.client, f"{config.prefix}_releases")
        except TaoembError:
            self.close()
            raise

    def __enter__(self) -> "MilvusStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; the last store on a Lite file gives it free for other processes."""
        self._connection.close()

    @contextmanager
    def talking(self, what: str) -> Iterator[None]:
        """Turn Milvus' failures inside into one line that says what was tried."""
        try:
            yield
        except MilvusException as error:
            raise TaoembError(f"Milvus at {self.config.uri}: could not {what}: {error.message}") from None

    # collections

    def create_collection(
        self, name: str, dimension: int, metric: str, signals: Sequence[str], item_encoder_digest: str
    ) -> None:
        """Make an empty collection that belongs to one item encoder."""
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("item_id", DataType.VARCHAR, is_primary=True, max_length=ID_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        schema.add_field("row_hash", DataType.INT64)
        for field, length in TEXT_BYTES.items():
            schema.add_field(field, DataType.VARCHAR, max_length=length, nullable=True)
        for field in ("price", *signals):
            schema.add_field(field, DataType.DOUBLE, nullable=True)
        with self.talking(f"create collection {name}"):
            self.client.create_collection(
                name,
                schema=schema,
                index_params=self._index(metric),
                properties={OWNER: item_encoder_digest},
                consistency_level="Strong",
            )

    def fields(self, name: str, item_encoder_digest: str, *, timeout_s: float | None = None) -> frozenset[str] | None:
        """The fields of a collection; None when it does not exist. `timeout_s` bounds each call of Milvus.

        Raises InputError when it was embedded by another item encoder.
        """
        with self.talking(f"describe collection {name}"):
            if not self.client.has_collection(name, timeout=timeout_s):
                return None
            described = self.client.describe_collection(name, timeout=timeout_s)
        owner = described.get("properties", {}).get(OWNER)
        if owner != item_encoder_digest:
            raise InputError(
                f"collection {name} was embedded by item encoder {_short(owner)}, not by "
                f"{_short(item_encoder_digest)}; choose another milvus.prefix"
            )
        return frozenset(field["name"] for field in described["fields"])

    def load(self, name: str) -> None:
        """Make a collection ready to be searched."""
        with self.talking(f"load collection {name}"):
            self.client.load_collection(name)

    def is_loaded(self, name: str, *, timeout_s: float | None = None) -> bool:
        """Whether it can be searched now."""
        with self.talking(f"ask for the state of collection {name}"):
            return bool(self.client.get_load_state(name, timeout=timeout_s)["state"] == LoadState.Loaded)

    def reload(self, name: str) -> None:
        """Load a collection anew, with all rows that were imported into it; it cannot be searched meanwhile."""
        with self.talking(f"release collection {name}"):
            self.client.release_collection(name)
        self.load(name)

    def count(self, name: str) -> int:
        """Number of rows."""
        self.load(name)
        with self.talking(f"count {name}"):
            answer = self.client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(answer[0]["count(*)"])

    def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert or replace rows by item id."""
        with self.talking(f"write to {name}"):
            self.client.upsert(name, list(rows))

    def delete(self, name: str, item_ids: Sequence[str]) -> None:
        """Remove items."""
        for start in range(0, len(item_ids), self.config.batch):
            with self.talking(f"delete from {name}"):
                self.client.delete(name, filter=self._naming(item_ids[start : start + self.config.batch]))

    def flush(self, name: str) -> None:
        """Seal what was written, so that it is indexed and durable."""
        with self.talking(f"flush {name}"):
            self.client.flush(name)

    def drop(self, name: str) -> None:
        """Delete a collection, if it is there."""
        with self.talking(f"drop collection {name}"):
            self.client.drop_collection(name)

    def hashes(self, name: str) -> Iterator[tuple[list[str], np.ndarray]]:
        """All rows as (item ids, row hashes int64), some thousand at a time."""
        self.load(name)
        last = ""
        while part := self._page(name, last):
            yield [row["item_id"] for row in part], np.array([row["row_hash"] for row in part], dtype=np.int64)
            last = part[-1]["item_id"]

    def vectors(self, name: str, item_ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Stored vectors (n, D) float32 of the items that exist, with their ids."""
        with self.talking(f"read {name}"):
            rows = self.client.query(name, filter=self._naming(item_ids), output_fields=["item_id", "vector"])
        return [row["item_id"] for row in rows], np.array([row["vector"] for row in rows], dtype=np.float32)

    def nearest(self, name: str, vectors_QD: np.ndarray, k: int) -> list[list[tuple[str, float]]]:
        """(item id, score) of the index's answers to each vector, as a search would get them.

        For checks, not for serving: it does not ask which encoder made the vectors.
        """
        with self.talking(f"search {name}"):
            answers = self.client.search(name, data=list(vectors_QD), limit=k, search_params=self._search_params(k))
        return [[(hit["item_id"], float(hit["distance"])) for hit in answer] for answer in answers]

    # releases

    def alias_target(self) -> str | None:
        """The collection that the alias names."""
        with self.talking("list aliases"):
            if self.config.alias not in self.client.list_aliases()["aliases"]:
                return None
            return str(self.client.describe_alias(self.config.alias)["collection_name"])

    def named(self) -> frozenset[str]:
        """All collections that any alias names."""
        with self.talking("list aliases"):
            every = self.client.list_aliases()["aliases"]
            return frozenset(str(self.client.describe_alias(alias)["collection_name"]) for alias in every)

    def check_alias(self) -> str | None:
        """The collection that the alias names. Raises InputError when it is not one that was published here.

        What other programs, or taoemb under another prefix, called so stays theirs.
        """
        target, alias = self.alias_target(), self.config.alias
        with self.talking("read the registry"):
            known = {entry.collection for entry in self.registry.releases()}
            known |= {entry.collection for entry in self.registry.collections()}
            taken = target is None and self.client.has_collection(alias)
        if taken:
            raise InputError(f"milvus.alias {alias} is the name of a collection; choose another milvus.alias")
        if target is not None and target not in known:
            raise InputError(
                f"alias {alias} names collection {target}, which was not published here (milvus.prefix "
                f"{self.config.prefix}); choose another milvus.alias, or drop the alias first"
            )
        return target

    def activate(self, entry: ReleaseEntry, *, back: bool = False) -> ReleaseEntry:
        """Make a bound release the active one: the alias moves in one step, then the registry says so.

        The release that was active becomes its `previous`; with `back` (a rollback) it keeps the one it had. Raises
        InputError as :meth:`check_alias`.
        """
        target, alias = self.check_alias(), self.config.alias
        if entry.alias != alias:  # published under another one, which stays as it is
            own = replace(entry, alias=alias, status="staged", activated_at="", previous=None)
            entry = self.registry.find(entry.digest, alias) or own
        active = self.registry.active(alias)
        with self.talking(f"move alias {alias}"):
            if target is None:
                self.client.create_alias(entry.collection, alias)
            elif target != entry.collection:
                self.client.alter_alias(entry.collection, alias)
        replaced = active if active is not None and active.digest != entry.digest else None
        previous = entry.previous if back or replaced is None else replaced.digest
        entry = replace(entry, status="active", activated_at=now(), previous=previous)
        with self.talking("record the active release"):
            self.registry.write([entry, *([replace(replaced, status="retired")] if replaced is not None else [])])
        return entry

    def binding(self, release_digest: str, *, timeout_s: float | None = None) -> ReleaseEntry:
        """The registry's entry of a release; its collection may not be loaded. `timeout_s` bounds each call of Milvus.

        Raises InputError with both digests when the release is not bound.
        """
        entry = self._bound.get(release_digest)
        if entry is None:
            with self.talking("read the registry"):
                entry = self.registry.find(release_digest, timeout_s=timeout_s)
                active = self.registry.active(self.config.alias, timeout_s=timeout_s) if entry is None else None
            if entry is None:
                others = (
                    f"the active release is {_short(active.digest)}" if active is not None else "nothing is published"
                )
                raise InputError(
                    f"release {_short(release_digest)} is not bound to any collection in {self.config.uri}; {others}. "
                    f"Publish it first (without new vectors when its item encoder is already there)"
                )
            if self.fields(entry.collection, entry.item_encoder_digest, timeout_s=timeout_s) is None:
                raise TaoembError(
                    f"collection {entry.collection} of release {_short(entry.digest)} is gone; publish it again"
                )
            self._bound[release_digest] = entry
        return entry

    def load_release(self, release_digest: str) -> ReleaseEntry:
        """:meth:`binding`, and the collection ready to be searched, which may take minutes."""
        entry = self.binding(release_digest)
        self.load(entry.collection)
        return entry

    def search(
        self,
        vectors_QD: np.ndarray,
        release_digest: str,
        k: int,
        filter: str = "",
        collection: str | None = None,
        *,
        timeout_s: float | None = None,
    ) -> list[list[Hit]]:
        """The `k` nearest items of each query vector, best first, in the collection that the release is bound to.

        `release_digest` names the release whose query encoder made the vectors. `filter` is a Milvus expression over
        title, brand, category, price and signal_*; `timeout_s` bounds each call of Milvus. Raises InputError when the
        release is not bound at all, or not to `collection` (a name or the alias) when one is given, and for a filter
        that Milvus does not understand. A collection that nobody loaded, or that somebody released, is loaded; with
        `timeout_s`, NotLoaded is raised instead, as loading may take minutes.
        """
        if not 1 <= k <= ANSWERS:
            raise InputError(f"k={k}: Milvus answers 1 to {ANSWERS:,} items")
        entry = self.binding(release_digest, timeout_s=timeout_s)
        if collection is not None:
            self._check_bound(entry, self.alias_target() if collection == self.config.alias else collection)
        try:
            answers = self._nearest(entry.collection, vectors_QD, k, filter, timeout_s)
        except NotLoaded:
            if timeout_s is not None:
                raise
            self.load(entry.collection)
            answers = self._nearest(entry.collection, vectors_QD, k, filter, timeout_s)
        return [
            [
                Hit(hit["item_id"], float(hit["distance"]), **{name: hit["entity"].get(name) for name in SHOWN})
                for hit in hits
            ]
            for hits in answers
        ]

    def _nearest(
        self, collection: str, vectors_QD: np.ndarray, k: int, filter: str, timeout_s: float | None
    ) -> Sequence[Sequence[dict[str, Any]]]:
        try:
            return self.client.search(
                collection,
                data=list(vectors_QD),
                limit=k,
                filter=as_sent(filter, lite=self.lite),
                output_fields=list(SHOWN),
                search_params=self._search_params(k),
                timeout=timeout_s,
            )
        except MilvusException as error:
            if error.code == _NOT_LOADED:
                raise NotLoaded(f"collection {collection} is not loaded") from None
            if filter:
                raise InputError(f"search with filter {filter!r}: {error.message}") from None
            raise TaoembError(f"Milvus at {self.config.uri}: could not search: {error.message}") from None

    def _check_bound(self, entry: ReleaseEntry, collection: str | None) -> None:
        if entry.collection != collection:
            owner = next((one for one in self.registry.collections() if one.collection == collection), None)
            theirs = _short(owner.item_encoder_digest) if owner is not None else "unknown"
            raise InputError(
                f"release {_short(entry.digest)} (item encoder {_short(entry.item_encoder_digest)}) is bound to "
                f"{entry.collection}, not to {collection} (item encoder {theirs})"
            )

    def _page(self, name: str, last: str) -> list[dict[str, Any]]:
        """Ids and hashes of the next rows in the order of their ids, after `last`.

        As pymilvus' query_iterator, which pastes the last id into its expression as it is.
        """
        with self.talking(f"read {name}"):
            return self.client.query(
                name,
                filter=as_sent(after("item_id", last), lite=self.lite),
                output_fields=["item_id", "row_hash"],
                limit=_PAGE,
                consistency_level="Strong",
                iterator="True",  # sorted by id, the first ones
                reduce_stop_for_best="True",
            )

    def _naming(self, item_ids: Sequence[str]) -> str:
        return as_sent(among("item_id", item_ids), lite=self.lite)

    def _index(self, metric: str) -> Any:
        config, kind = self.config, self.config.index
        hnsw = {"M": config.hnsw_m, "efConstruction": config.hnsw_ef_construction}
        params = {"HNSW": hnsw, "IVF_FLAT": {"nlist": 1024}, "FLAT": {}}[kind]
        index = self.client.prepare_index_params()
        index.add_index("vector", index_type=kind, metric_type=metric.upper(), params=params)
        return index

    def _search_params(self, k: int) -> dict[str, Any]:
        own = {"HNSW": {"ef": max(self.config.search_ef, k)}, "IVF_FLAT": {"nprobe": 64}, "FLAT": {}}
        return {"params": own[self.config.index]}


def _short(digest: str | None) -> str:
    return digest[:16] if digest else "none"
