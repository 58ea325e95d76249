"""The release folder: written whole or not at all, checked whenever it is read.

At its root stands the query encoder as a sentence-transformers folder. When items are embedded by another encoder (only
the query tower was trained), that one stands in `item_encoder/`, so that a release never depends on another folder.
"""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from taoemb.config import EncoderConfig
from taoemb.encoder.export import write_encoder
from taoemb.encoder.loading import load
from taoemb.encoder.manifest import (
    ITEM_FOLDER,
    MANIFEST,
    Manifest,
    collection_name,
    hash_files,
    item_digest,
    read_manifest,
    release_digest,
    verify,
    write_manifest,
)
from taoemb.encoder.model import BulkPrecision, Encoder
from taoemb.encoder.sources import ModelSource
from taoemb.errors import InputError
from taoemb.storage import new_folder

__all__ = ["Manifest", "Release", "bind_collection", "collection_name", "load_release", "save_release"]

RUNTIME = ("lora", "attention", "compile", "tokens_per_batch", "precision", "bulk_backend", "trust_remote_code")
"""Settings of `encoder.*` that hold for a release as for any model; `encoder.remarks` tells of the others."""


@dataclass(frozen=True)
class Release:
    """A release folder and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def shared(self) -> bool:
        """Whether one encoder embeds both queries and items."""
        return not (self.path / ITEM_FOLDER).is_dir()

    @property
    def item_folder(self) -> Path:
        """Where the item encoder's files stand."""
        return self.path if self.shared else self.path / ITEM_FOLDER

    def query_encoder(
        self,
        device: str | torch.device = "cpu",
        precision: BulkPrecision | None = None,
        *,
        config: EncoderConfig | None = None,
    ) -> Encoder:
        """The encoder of queries, as the manifest describes it.

        `config` adds what is no part of a release (`RUNTIME`): adapters, attention, compiled layers, batch size, remote
        code, and the precision unless that is given.
        """
        return self._load(self.path, device, precision, config)

    def item_encoder(
        self,
        device: str | torch.device = "cpu",
        precision: BulkPrecision | None = None,
        *,
        config: EncoderConfig | None = None,
    ) -> Encoder:
        """The encoder of items; see :meth:`query_encoder`."""
        return self._load(self.item_folder, device, precision, config)

    def _load(
        self,
        folder: Path,
        device: str | torch.device,
        precision: BulkPrecision | None,
        config: EncoderConfig | None,
    ) -> Encoder:
        runtime = (config or EncoderConfig.model_validate({})).model_dump(include=set(RUNTIME)) | (
            {"precision": precision} if precision else {}
        )
        return load(ModelSource.of_release(folder, self.manifest), EncoderConfig.model_validate(runtime)).to(device)


def load_release(path: Path) -> Release:
    """Open a release and check every file against its digest. Raises InputError when one is missing or changed."""
    path = Path(path)
    manifest = read_manifest(path)
    verify(path, manifest)
    return Release(path, manifest)


def save_release(
    out: Path,
    query_encoder: Encoder,
    *,
    item_encoder: Encoder | None = None,
    item_source: Release | None = None,
    parent: Release | None = None,
    training: Mapping[str, Any] | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
) -> Release:
    """Write a release to `out`, replacing a release that stands there.

    Items are embedded by `query_encoder` itself, by `item_encoder`, or by the item encoder of the release `item_source`
    (its files are hard-linked). `state_dict` replaces the query encoder's own weights (keys of `Encoder.state_dict()`,
    e.g. gathered from ZeRO-3). LoRA adapters are merged. `training` is kept as it is (JSON).
    Raises InputError when `out` holds something else or the two encoders do not fit together.
    """
    out = Path(out)
    if item_encoder is not None and item_source is not None:
        raise ValueError("give item_encoder or item_source, not both")
    if item_encoder is query_encoder:
        item_encoder = None
    spec = query_encoder.spec
    identity: dict[str, Any] = dataclasses.asdict(spec) | {"metric": "cosine"}
    if item_source is not None:
        own = item_source.manifest
        identity |= {"item_template": own.item_template, "max_item_tokens": own.max_item_tokens}
        _agree(spec.dimension, own.dimension, spec.pooling, own.pooling)
    elif item_encoder is not None:
        theirs = item_encoder.spec
        identity |= {"item_template": theirs.item_template, "max_item_tokens": theirs.max_item_tokens}
        _agree(spec.dimension, theirs.dimension, spec.pooling, theirs.pooling)
    _check_replaceable(out)
    with new_folder(out, SafetensorError) as folder:
        separate = item_encoder is not None or item_source is not None
        limit = spec.max_query_tokens if separate else max(spec.max_query_tokens, spec.max_item_tokens)
        write_encoder(folder, query_encoder, limit, state_dict)
        if item_encoder is not None:
            write_encoder(folder / ITEM_FOLDER, item_encoder, item_encoder.spec.max_item_tokens)
        elif item_source is not None:
            _link_item_encoder(item_source, folder / ITEM_FOLDER)
        files = hash_files(folder)
        manifest = Manifest(
            digest=release_digest(files, identity),
            item_encoder_digest=item_digest(files, identity),
            files=files,
            parent=parent.manifest.digest if parent is not None else None,
            training=dict(training or {}),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            **identity,
        )
        write_manifest(folder, manifest)
    return Release(out, manifest)


def bind_collection(release: Release, collection: str) -> Release:
    """Record the collection that the release searches; its digest stays as it is."""
    manifest = dataclasses.replace(release.manifest, collection=collection)
    write_manifest(release.path, manifest)
    return Release(release.path, manifest)


def _agree(dimension: int, item_dimension: int, pooling: str, item_pooling: str) -> None:
    if (dimension, pooling) != (item_dimension, item_pooling):
        raise InputError(
            f"query encoder ({dimension} dimensions, {pooling} pooling) and item encoder ({item_dimension}, "
            f"{item_pooling}) do not fit together; train from the release whose items are searched"
        )


def _link_item_encoder(source: Release, target: Path) -> None:
    """The item encoder's files of another release, as hard links where the file system allows it."""
    prefix = "" if source.shared else f"{ITEM_FOLDER}/"
    for name in source.manifest.files:
        if name.startswith(prefix):
            copy = target / name.removeprefix(prefix)
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source.path / name, copy)
            except OSError:
                shutil.copy2(source.path / name, copy)


def _check_replaceable(out: Path) -> None:
    if out.exists() and not (out / MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not a release; choose another place")
