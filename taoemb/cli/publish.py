"""`taoemb publish`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings

if TYPE_CHECKING:
    from taoemb.config import Config

MilvusOption = Annotated[
    str | None, typer.Option("--milvus", metavar="URI", help="Milvus Lite file (*.db) or http(s)://host:19530.")
]


def publish(
    release: Annotated[Path, typer.Option("--release", metavar="DIR", help="The release folder.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Dataset folder with items.parquet.")],
    milvus: MilvusOption = None,
    activate: Annotated[
        bool, typer.Option("--activate/--no-activate", help="Move the alias to it once it is verified.")
    ] = True,
    bulk: Annotated[
        Path | None, typer.Option("--bulk", metavar="DIR", help="Write Parquet shards there and import them.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="With --bulk: only write shard I of N.")
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards",
            min=1,
            max=99_999,
            metavar="N",
            help="With --bulk: write N shards side by side, then import them.",
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Embed a catalogue with a release's item encoder, verify it, and make the release the one that is searched."""
    tree = with_uri(settings(config, set_), milvus)
    from taoemb.encoder.release import load_release
    from taoemb.encoder.remarks import warn_of
    from taoemb.errors import InputError
    from taoemb.retrieval import bulk as bulks
    from taoemb.retrieval.publish import publish as run

    if bulk is None and (shard is not None or shards is not None):
        option = "--shard" if shard is not None else "--shards"
        raise InputError(f"{option}: give the folder of the shards too, with --bulk DIR")
    if shard is not None and shards is not None:
        raise InputError("--shard and --shards: give one of them")
    if bulk is not None and shard is not None:
        part = bulks.parse_shard(shard)
        written = bulks.write_shard(load_release(release), data, tree.milvus, bulk, part, tree.encoder)
        emit(written, json, title=f"Shard {shard}")
        return
    if bulk is not None:
        bulks.check_importable(tree.milvus)
    opened = load_release(release)
    warn_of(opened, tree.encoder)
    if bulk is not None and shards is not None:
        from taoemb.jobs.shards import run_shards

        missing = bulks.missing_shards(opened, data, tree.milvus, bulk, shards)
        run_shards(release, data, bulk, [part.number for part in missing], shards, tree)
    fill = bulks.bulk_import(opened, bulk, tree.encoder) if bulk is not None else None
    result = run(opened, data, tree.milvus, activate, encoder=tree.encoder, fill=fill)
    emit(dataclasses.asdict(result), json, title=f"Published to {tree.milvus.uri}")


def with_uri(tree: "Config", milvus: str | None) -> "Config":
    """The settings with `--milvus` in place of milvus.uri."""
    if milvus is None:
        return tree
    return tree.model_copy(update={"milvus": tree.milvus.model_copy(update={"uri": milvus})})
