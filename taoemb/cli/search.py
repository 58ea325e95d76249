"""`taoemb search`."""

import dataclasses
from typing import Annotated

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings
from taoemb.cli.publish import MilvusOption, with_uri


def search(
    query: Annotated[str, typer.Argument(help="What to search for.")],
    milvus: MilvusOption = None,
    release: Annotated[
        str | None, typer.Option("--release", metavar="DIR|DIGEST", help="Another release than the active one.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", help="How many items.")] = 10,
    filter: Annotated[
        str, typer.Option("--filter", metavar="EXPR", help="E.g. 'price < 50 and brand == \"Acme\"'.")
    ] = "",
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Search the published catalogue with the active release."""
    tree = with_uri(settings(config, set_), milvus)
    from taoemb.retrieval.search import search as run

    digest, hits = run(query, tree.milvus, release, k, filter, tree.encoder)
    rows = [(hit.title or hit.item_id, hit.brand or "", _price(hit.price), f"{hit.score:.3f}") for hit in hits]
    result = {"query": query, "release": digest, "hits": [dataclasses.asdict(hit) for hit in hits]}
    title = f"{query} (release {digest[:16]})"
    emit(result, json, title=title, table=(("title", "brand", "price", "score"), rows))


def _price(price: float | None) -> str:
    return "" if price is None else f"{price:,.2f}"
