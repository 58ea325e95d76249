"""Bulk import for large catalogues: Parquet shards in Milvus' import layout, then its import API.

Shard i of n is written by itself and not written again, so any number of jobs can embed a catalogue side by side and
be started again. Milvus reads the files from its own bucket; getting them there (or mounting the bucket as the bulk
folder) is up to the site.
"""

import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taoemb.config import MilvusConfig
from taoemb.encoder.manifest import collection_name
from taoemb.errors import InputError, TaoembError
from taoemb.progress import progress
from taoemb.retrieval.connection import read_token
from taoemb.retrieval.fill import Fill, create, embed, item_embedder, record
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.registry import CollectionEntry
from taoemb.retrieval.rows import TEXT_BYTES, ItemRows, fingerprint, open_rows, spans

if TYPE_CHECKING:
    from taoemb.config import EncoderConfig
    from taoemb.encoder.bulk import Embed
    from taoemb.encoder.release import Release

POLL_S = 2.0
_BATCH = 4096
_FILE = re.compile(r"shard-(\d{5})-of-(\d{5})\.parquet")
_CONTENT, _OWNER = b"taoemb.rows", b"taoemb.item_encoder"


@dataclass(frozen=True)
class Shard:
    """Shard `number` (from 1) of `of`: an equal share of the catalogue's rows, in order."""

    number: int
    of: int

    @property
    def file(self) -> str:
        """Its file name."""
        return f"shard-{self.number:05d}-of-{self.of:05d}.parquet"

    def span(self, rows: int) -> tuple[int, int]:
        """First row, and the row after the last."""
        return (self.number - 1) * rows // self.of, self.number * rows // self.of


def parse_shard(text: str) -> Shard:
    """ "3/16" → shard 3 of 16. Raises InputError for anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 99_999:
        raise InputError(f"--shard {text!r}: give I/N with I from 1 to N, e.g. 3/16")
    return Shard(int(match[1]), int(match[2]))


def write_shard(
    release: "Release",
    data: Path,
    config: MilvusConfig,
    folder: Path,
    shard: Shard,
    encoder: "EncoderConfig | None" = None,
) -> dict[str, Any]:
    """Embed one shard of the catalogue into `folder`/{collection}/; Milvus is not asked. A finished shard stays.

    `encoder` says how to embed in bulk (precision, backend, batch), not with what.
    Returns the file, its number of items, and whether it was written now.
    """
    rows = open_rows(data, release.manifest.item_template)
    name = collection_name(config.prefix, release.manifest.item_encoder_digest)
    hashes = rows.hashes(*shard.span(len(rows)))
    file = folder / name / shard.file
    written = not _is_written(file, release, hashes)
    if written:
        _write(file, rows, shard, hashes, release, item_embedder(release, encoder, len(hashes)))
    return {"file": str(file), "items": len(hashes), "written": written}


def missing_shards(release: "Release", data: Path, config: MilvusConfig, folder: Path, of: int) -> list[Shard]:
    """Those of the `of` shards of a catalogue that `folder` does not hold yet.

    Raises InputError when it holds another set of shards, or shards of another catalogue or encoder.
    """
    rows = open_rows(data, release.manifest.item_template)
    own = folder / collection_name(config.prefix, release.manifest.item_encoder_digest)
    shards = _shards(own, len(rows), config.bulk_rows) if any(own.glob("*.parquet")) else _set_of(of)
    if len(shards) != of:
        raise InputError(f"{own}: holds shards of {len(shards)}, not of {of}; give --shards {len(shards)}")
    missing = [shard for shard in shards if not (own / shard.file).exists()]
    for shard in shards:
        if shard not in missing:
            _check_whole(own, shard, release, rows.hashes(*shard.span(len(rows))))
    return missing


def bulk_import(release: "Release", folder: Path, encoder: "EncoderConfig | None" = None) -> Fill:
    """Fill a new collection from the shards in `folder`; missing ones are written first when there are none at all.

    Raises InputError on Milvus Lite, for a collection that already holds rows, or when shards are missing or stale.
    """

    def fill(store: MilvusStore, name: str, rows: ItemRows, hashes: np.ndarray) -> tuple[int, int]:
        remote, config = check_importable(store.config), store.config
        shards = _shards(folder / name, len(rows), config.bulk_rows)
        for shard in shards:
            _check_whole(folder / name, shard, release, hashes[slice(*shard.span(len(rows)))])
        record(store, CollectionEntry(name, release.manifest.item_encoder_digest, "filling", fingerprint(hashes)))
        embedded = _write_missing(folder / name, shards, rows, hashes, release, encoder)
        jobs = _Jobs(config)
        job = jobs.running(name)
        if job is None and store.count(name) != len(rows):
            _make_empty(store, name, release, rows)
            paths = ["/".join(part for part in (remote, name, shard.file) if part) for shard in shards]
            job = jobs.start(name, paths)
        if job is not None:
            jobs.wait(job)
        store.flush(name)
        store.reload(name)
        return embedded, 0

    return fill


def _make_empty(store: MilvusStore, name: str, release: "Release", rows: ItemRows) -> None:
    """An import adds rows without looking for their ids: what an earlier, failed one has left must go first."""
    stored = store.count(name)
    if stored and any(entry.collection == name for entry in store.registry.releases()):
        raise InputError(
            f"collection {name} is searched and holds {stored:,} rows, to which a bulk import would add; publish "
            f"without --bulk: that writes only what changed"
        )
    if stored:
        store.drop(name)
        create(store, name, release, rows)


def check_importable(config: MilvusConfig) -> str:
    """Where the bulk folder lies in Milvus' bucket. Raises InputError on Milvus Lite, or when nobody said where."""
    if config.uri.endswith(".db"):
        raise InputError(
            f"{config.uri} is a Milvus Lite file, and bulk import needs a Milvus server: give --milvus http://…, or "
            f"publish without --bulk"
        )

    if config.bulk_remote is None:
        raise InputError(
            "bulk import: say where the bulk folder lies in Milvus' bucket with --set milvus.bulk_remote=PREFIX; to "
            "write the files alone, give --shard I/N"
        )
    return config.bulk_remote.strip("/")


def _shards(folder: Path, rows: int, bulk_rows: int) -> list[Shard]:
    """The set of shards that `folder` holds a part of; a new one when it holds none."""
    counts = {int(match[2]) for file in folder.glob("*.parquet") if (match := _FILE.fullmatch(file.name))}
    if len(counts) > 1:
        raise InputError(f"{folder}: shards of {' and of '.join(map(str, sorted(counts)))}; keep one set")
    return _set_of(counts.pop() if counts else -(-rows // bulk_rows))


def _set_of(of: int) -> list[Shard]:
    return [Shard(number, of) for number in range(1, of + 1)]


def _check_whole(folder: Path, shard: Shard, release: "Release", hashes: np.ndarray) -> None:
    file = folder / shard.file
    if file.exists() and not _is_written(file, release, hashes):
        raise InputError(f"{file}: made from another catalogue or encoder; delete it, or give another --bulk folder")


def _is_written(file: Path, release: "Release", hashes: np.ndarray) -> bool:
    if not file.exists():
        return False
    notes = pq.read_schema(file).metadata or {}
    wanted = {_CONTENT: fingerprint(hashes).encode(), _OWNER: release.manifest.item_encoder_digest.encode()}
    return all(notes.get(key) == value for key, value in wanted.items())


def _write_missing(
    folder: Path,
    shards: Sequence[Shard],
    rows: ItemRows,
    hashes: np.ndarray,
    release: "Release",
    encoder: "EncoderConfig | None",
) -> int:
    missing = [shard for shard in shards if not (folder / shard.file).exists()]
    if not missing:
        return 0
    items = sum(stop - start for start, stop in (shard.span(len(rows)) for shard in missing))
    embedder = item_embedder(release, encoder, items)
    for shard in missing:
        _write(folder / shard.file, rows, shard, hashes[slice(*shard.span(len(rows)))], release, embedder)
    return items


def _write(file: Path, rows: ItemRows, shard: Shard, hashes: np.ndarray, release: "Release", embedder: "Embed") -> None:
    """One shard, whole or not at all."""
    notes = {_CONTENT: fingerprint(hashes), _OWNER: release.manifest.item_encoder_digest}
    schema = _schema(rows.signals).with_metadata(notes)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    start, stop = shard.span(len(rows))
    with (
        pq.ParquetWriter(partial, schema) as writer,
        progress(f"embed shard {shard.number}/{shard.of}", stop - start) as bar,
    ):
        for entities, vectors in embed(rows, spans(start, stop, _BATCH), embedder):
            offsets = np.arange(0, vectors.size + 1, vectors.shape[1], dtype=np.int32)
            column = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)))
            rest = [
                pa.array([row[field.name] for row in entities], field.type)
                for field in schema
                if field.name != "vector"
            ]
            writer.write_batch(pa.record_batch([column, *rest], schema=schema))
            bar.advance(len(entities))
    partial.replace(file)


def _schema(signals: Sequence[str]) -> pa.Schema:
    fields = [("vector", pa.list_(pa.float32())), ("item_id", pa.string()), ("row_hash", pa.int64())]
    fields += [(name, pa.string()) for name in TEXT_BYTES]
    fields += [(name, pa.float64()) for name in ("price", *signals)]
    return pa.schema(fields)


class _Jobs:
    """Milvus' import jobs (REST v2, on the same port as gRPC)."""

    def __init__(self, config: MilvusConfig) -> None:
        self._base = f"{(config.bulk_url or config.uri).rstrip('/')}/v2/vectordb/jobs/import"
        token = read_token(config.token_file)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def running(self, collection: str) -> str | None:
        """The unfinished job of a collection: one that an interrupted publish has started."""
        for job in self._post("list", collectionName=collection).get("records") or []:
            if job.get("collectionName") == collection and job.get("state") in ("Pending", "Importing"):
                return str(job["jobId"])
        return None

    def start(self, collection: str, paths: Sequence[str]) -> str:
        """Import files of the bucket; returns the job's id."""
        return str(self._post("create", collectionName=collection, files=[[path] for path in paths])["jobId"])

    def wait(self, job: str) -> None:
        """Until the job is done. Raises TaoembError with Milvus' reason when it failed."""
        with progress(f"import job {job}", 100) as bar:
            for _ in itertools.count():
                answer = self._post("describe", jobId=job)
                bar.advance(max(0, int(answer.get("progress") or 0) - bar.done))
                if answer["state"] == "Completed":
                    return
                if answer["state"] == "Failed":
                    raise TaoembError(f"Milvus import job {job} failed: {answer.get('reason') or 'no reason given'}")
                time.sleep(POLL_S)

    def _post(self, verb: str, **body: Any) -> dict[str, Any]:
        try:
            answer = httpx.post(f"{self._base}/{verb}", json=body, headers=self._headers, timeout=30)
            answer.raise_for_status()
            tree = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise TaoembError(f"Milvus bulk import ({self._base}/{verb}): {error}") from None
        if tree.get("code") != 0:
            raise TaoembError(f"Milvus bulk import ({verb}): {tree.get('message') or tree}")
        return tree.get("data") or {}
