"""The record of what was published: which release is bound to which collection, which is active, which was before.

It lives in a collection of its own beside the vectors, so that whoever can search can also check. A release's row is
written only after its collection was verified: what stands here may be searched.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from taoemb.errors import InputError
from taoemb.limits import ANSWERS
from taoemb.retrieval.expressions import EVERY_KEY, among

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_BODY_BYTES = 65_535
Status = Literal["staged", "active", "retired"]


@dataclass(frozen=True)
class ReleaseEntry:
    """A release bound to a collection, under one alias."""

    digest: str
    item_encoder_digest: str
    collection: str
    alias: str
    status: Status
    location: str
    """The release folder when it was published."""
    items: int
    published_at: str
    activated_at: str = ""
    previous: str | None = None
    """Digest of the release that was active before this one: where a rollback goes."""
    parent: str | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Primary key in the registry."""
        return f"{self.alias}/{self.digest}"


@dataclass(frozen=True)
class CollectionEntry:
    """What is known of a collection: `ready` holds exactly the catalogue of that fingerprint and was verified."""

    collection: str
    item_encoder_digest: str
    status: Literal["filling", "ready", "dropping"]
    catalogue: str
    """Fingerprint (rows.py) of the catalogue that fills it."""

    @property
    def key(self) -> str:
        """Primary key in the registry."""
        return f"collection/{self.collection}"


Entry = ReleaseEntry | CollectionEntry


class Registry:
    """Reads and writes the entries; made by the store."""

    def __init__(self, client: "MilvusClient", name: str) -> None:
        self._client, self.name = client, name
        if client.has_collection(name):
            client.load_collection(name)

    def releases(self, alias: str | None = None, *, timeout_s: float | None = None) -> list[ReleaseEntry]:
        """All published releases, newest first; of one alias or of all. `timeout_s` bounds each call of Milvus."""
        found = [ReleaseEntry(**body) for kind, body in self._read(timeout_s) if kind == "release"]
        found = [entry for entry in found if alias in (None, entry.alias)]
        return sorted(found, key=lambda entry: (entry.activated_at or entry.published_at, entry.key), reverse=True)

    def collections(self) -> list[CollectionEntry]:
        """All known collections."""
        return [CollectionEntry(**body) for kind, body in self._read() if kind == "collection"]

    def collection(self, name: str) -> CollectionEntry | None:
        """What is known of one collection."""
        return next((entry for entry in self.collections() if entry.collection == name), None)

    def active(self, alias: str, *, timeout_s: float | None = None) -> ReleaseEntry | None:
        """The active release of an alias."""
        entries = self.releases(alias, timeout_s=timeout_s)
        return next((entry for entry in entries if entry.status == "active"), None)

    def find(self, digest: str, alias: str | None = None, *, timeout_s: float | None = None) -> ReleaseEntry | None:
        """The release with that digest, or with that unambiguous start of it (at least 6 digits)."""
        entries = self.releases(alias, timeout_s=timeout_s)
        matching = {entry.digest for entry in entries if entry.digest.startswith(digest) and len(digest) >= 6}
        if len(matching) > 1:
            raise InputError(f"release {digest}: {len(matching)} releases start so; give more digits")
        return next((entry for entry in entries if entry.digest in matching), None)

    def write(self, entries: Sequence[Entry]) -> None:
        """Insert or replace entries in one request, so that readers see all of them or none."""
        if not self._client.has_collection(self.name):
            self._create()
        rows = [
            {"key": entry.key, "kind": _kind(entry), "body": _body(entry), "vector": [0.0, 0.0]} for entry in entries
        ]
        self._client.upsert(self.name, rows)

    def delete(self, entries: Iterable[Entry]) -> None:
        """Forget entries."""
        keys = [entry.key for entry in entries]
        if keys:
            self._client.delete(self.name, filter=among("key", keys))

    def _read(self, timeout_s: float | None = None) -> list[tuple[str, dict[str, Any]]]:
        if not self._client.has_collection(self.name, timeout=timeout_s):
            return []
        rows = self._client.query(
            self.name,
            filter=EVERY_KEY,
            output_fields=["kind", "body"],
            limit=ANSWERS,
            timeout=timeout_s,
            consistency_level="Strong",
        )
        return [(row["kind"], json.loads(row["body"])) for row in rows]

    def _create(self) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=512)
        schema.add_field("kind", DataType.VARCHAR, max_length=16)
        schema.add_field("body", DataType.VARCHAR, max_length=_BODY_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)  # every Milvus collection must have one
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        self._client.create_collection(self.name, schema=schema, index_params=index, consistency_level="Strong")
        self._client.load_collection(self.name)


def now() -> str:
    """UTC time, ISO 8601, to the microsecond: sorts as it passes."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _kind(entry: Entry) -> str:
    return "release" if isinstance(entry, ReleaseEntry) else "collection"


def _body(entry: Entry) -> str:
    tree = dataclasses.asdict(entry)
    body = json.dumps(tree, ensure_ascii=False)
    if len(body.encode()) > _BODY_BYTES:  # a long training record: it stands in release.json
        tree["manifest"] = {
            name: value for name, value in tree["manifest"].items() if name not in ("training", "files")
        }
        body = json.dumps(tree, ensure_ascii=False)
    return body
