"""`taoemb releases …`."""

import dataclasses
from typing import Annotated

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings
from taoemb.cli.publish import MilvusOption, with_uri

app = typer.Typer(no_args_is_help=True, help="What is published: list it, roll back, prune.")


@app.command("list")
def list_(
    milvus: MilvusOption = None, config: ConfigOption = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """List the published releases, the latest first."""
    tree = with_uri(settings(config, set_), milvus)
    from taoemb.retrieval.releases import list_releases

    entries = list_releases(tree.milvus)
    columns = ("release", "status", "items", "collection", "published", "rolls back to")
    rows = [
        (
            entry.digest[:16],
            entry.status,
            entry.items,
            entry.collection,
            entry.published_at[:19],
            (entry.previous or "")[:16],
        )
        for entry in entries
    ]
    result = {"alias": tree.milvus.alias, "releases": [dataclasses.asdict(entry) for entry in entries]}
    emit(result, json, title=f"Releases in {tree.milvus.uri}", table=(columns, rows))


@app.command()
def rollback(
    digest: Annotated[
        str | None, typer.Argument(help="Release to go back to, or the start of its digest; default: the one before.")
    ] = None,
    milvus: MilvusOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Make an earlier release the active one again; nothing is embedded."""
    tree = with_uri(settings(config, set_), milvus)
    from taoemb.retrieval.releases import rollback as run

    entry = run(tree.milvus, digest)
    result = {"release": entry.digest, "collection": entry.collection, "alias": entry.alias, "items": entry.items}
    emit(result, json, title="Active release")


@app.command()
def prune(
    keep: Annotated[int, typer.Option("--keep", metavar="N", help="Retired releases to keep.")] = 2,
    milvus: MilvusOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Forget old retired releases and drop the collections that no other release searches."""
    tree = with_uri(settings(config, set_), milvus)
    from taoemb.retrieval.releases import prune as run

    forgotten, dropped = run(tree.milvus, keep)
    emit({"forgotten": [entry.digest for entry in forgotten], "dropped": dropped}, json, title="Pruned")
