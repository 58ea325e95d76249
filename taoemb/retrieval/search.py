"""One search from text to items: the active release's query encoder, its own collection, the store's gate between."""

from pathlib import Path

from taoemb.config import EncoderConfig, MilvusConfig
from taoemb.encoder.release import Release, load_release
from taoemb.errors import InputError
from taoemb.retrieval.milvus import Hit, MilvusStore


def search(
    query: str,
    config: MilvusConfig,
    release: str | Path | None = None,
    k: int = 10,
    filter: str = "",
    encoder: EncoderConfig | None = None,
) -> tuple[str, list[Hit]]:
    """The digest of the release that answered, and its `k` best items for `query`.

    `release` is a release folder, a published digest or its start; default: the active release. `encoder` adds what is
    no part of a release (attention, remote code). Raises InputError when nothing is published, when the release's
    folder is gone or holds another one, or when it is not bound here.
    """
    if not query.strip():
        raise InputError("the query is empty; give some words to search for")
    folder = Path(release) if release is not None and Path(release).is_dir() else None
    given = load_release(folder) if folder is not None else None
    with MilvusStore(config) as store:
        if given is None:
            given = _recorded(store, str(release) if release is not None else None)
        store.load_release(given.manifest.digest)
        vectors = given.query_encoder(config=encoder and encoder.model_copy(update={"lora": None})).encode(
            [query], "query"
        )
        (hits,) = store.search(vectors, given.manifest.digest, k, filter)
    return given.manifest.digest, hits


def _recorded(store: MilvusStore, wanted: str | None) -> Release:
    """The release of the registry, opened where it stood when it was published."""
    config = store.config
    if wanted is None:
        with store.talking("read the registry"):
            entry = store.registry.active(config.alias)
        if entry is None:
            raise InputError(f"nothing is published in {config.uri} under alias {config.alias}; run taoemb publish")
    else:
        entry = store.binding(wanted)
    if not Path(entry.location).is_dir():
        raise InputError(f"release {entry.digest[:16]}: its folder {entry.location} is gone; give --release DIR")
    release = load_release(Path(entry.location))
    if release.manifest.digest != entry.digest:
        raise InputError(
            f"{entry.location}: holds release {release.manifest.digest[:16]} by now, not {entry.digest[:16]}; give "
            f"--release DIR"
        )
    return release
