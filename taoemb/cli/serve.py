"""`taoemb serve …`: the servers of online search."""

from pathlib import Path
from typing import Annotated

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings
from taoemb.cli.publish import MilvusOption, with_uri

app = typer.Typer(no_args_is_help=True, help="Serve what answers shoppers: a query encoder, the search gateway.")


@app.command()
def gateway(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="HTTP port.")] = 8080,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 in a container.")] = "127.0.0.1",
    milvus: MilvusOption = None,
    traffic: Annotated[
        str | None,
        typer.Option("--traffic", metavar="FILE|kserve://NAMESPACE/NAME", help="Where the arms and the split stand."),
    ] = None,
    exit_with_parent: Annotated[bool, typer.Option("--exit-with-parent", hidden=True)] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Serve searches and take shoppers' events until interrupted; SIGHUP restarts it without losing a search."""
    overrides = [*(set_ or []), *([f"gateway.traffic={traffic}"] if traffic is not None else [])]
    tree = with_uri(settings(config, overrides), milvus)
    from taoemb.serving.gateway.process import GatewayApp, serve

    app = GatewayApp(tree.gateway, tree.milvus, tree.events, kserve=tree.kserve, logs=tree.logs)
    serve(app, port=port, host=host, exit_with_parent=exit_with_parent)


@app.command()
def encoder(
    release: Annotated[Path, typer.Option("--release", help="Release folder.")],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="HTTP port.")] = 8090,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 in a container.")] = "127.0.0.1",
    name: Annotated[str, typer.Option("--name", help="Model name in requests.")] = "encoder",
    exit_with_parent: Annotated[bool, typer.Option("--exit-with-parent", hidden=True)] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a release's query encoder (KServe V1, V2 and OpenAI embeddings) until interrupted."""
    tree = settings(config, set_)
    from taoemb.serving.encoder.server import serve_encoder

    def tell(digest: str) -> None:
        told = {"url": f"http://{host}:{port}", "release": digest, "backend": tree.encoder_server.backend}
        if as_json:
            emit(told, as_json)
        else:
            print(f"ready: {told['url']} serves release {digest} with {told['backend']}", flush=True)

    serve_encoder(
        release,
        port=port,
        host=host,
        name=name,
        config=tree.encoder_server,
        encoder=tree.encoder,
        logs=tree.logs,
        exit_with_parent=exit_with_parent,
        on_ready=tell,
    )


@app.command()
def migrate(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Bring the events database (events.url) to this version's tables; servers do so too when they start."""
    tree = settings(config, set_)
    from taoemb.serving.events.database import database_url
    from taoemb.serving.events.migrate import migrate as upgrade

    emit({"revision": upgrade(database_url(tree.events))}, as_json)


@app.command()
def prune_events(
    days: Annotated[float, typer.Option("--older-than-days", min=0, help="Age from which pages go.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete old pages with their events and grades; a rollout goes as a whole, its decisions stay."""
    tree = settings(config, set_)
    from taoemb.serving.events.prune import prune

    gone = prune(tree.events, days)
    emit({"pages": gone.pages, "events": gone.events}, as_json, title="Deleted")


@app.command()
def erase_events(
    user: Annotated[str, typer.Option("--user", help="The user or session, as searches named it.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete everything that the events database holds of one user: pages, events and grades."""
    tree = settings(config, set_)
    from taoemb.serving.events.erase import erase

    gone = erase(tree.events, user)
    emit({"pages": gone.pages, "events": gone.events}, as_json, title="Erased")
