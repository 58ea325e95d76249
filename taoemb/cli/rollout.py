"""`taoemb rollout …`: roll a release out, watch it, decide by hand, and read what it found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taoemb.cli import rollout_cluster as cluster
from taoemb.cli import rollout_local as local
from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings
from taoemb.cli.publish import MilvusOption, with_uri
from taoemb.cli.rollout_control import commands, list_rollouts
from taoemb.cli.rollout_options import DirOption, ResourceOption, WhyOption, here_or_there
from taoemb.cli.rollout_shown import EXIT_CODES, Shown, warn
from taoemb.cli.simulate import simulate
from taoemb.errors import InputError

if TYPE_CHECKING:
    from taoemb.config import Config
    from taoemb.rollout.state import Action

app = typer.Typer(no_args_is_help=True, help="Roll a release out by live traffic, and decide by what it measures.")


@app.command()
def start(
    plan: Annotated[Path, typer.Option("--plan", metavar="FILE", help="The plan (YAML).")],
    candidate: Annotated[Path, typer.Option("--candidate", metavar="DIR", help="Release to roll out.")],
    folder: DirOption = None,
    control: Annotated[
        Path | None, typer.Option("--control", metavar="DIR", help="This machine: the release that serves now.")
    ] = None,
    milvus: MilvusOption = None,
    judge_url: Annotated[
        str | None, typer.Option("--judge-url", help="Judge that grades pages, …/openai/v1; none that gave reward.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the rollout; default: by digest.")] = None,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=16, help="This machine: encoders of an arm.")] = 1,
    gateway_port: Annotated[
        int | None, typer.Option("--gateway-port", min=1, max=65535, help="Port of the gateway; default: a free one.")
    ] = None,
    service: Annotated[
        str | None,
        typer.Option("--inference-service", metavar="NAMESPACE/NAME", help="Cluster: the service to roll out on."),
    ] = None,
    storage_uri: Annotated[
        str | None, typer.Option("--storage-uri", metavar="URI", help="Cluster: where KServe loads the candidate from.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Start a rollout: with --dir and --control on this machine, with --inference-service on a cluster."""
    from taoemb.rollout.plan import load_plan

    parsed = load_plan(plan)
    if service is not None:
        if folder is not None or storage_uri is None:
            raise InputError("--inference-service: needs --storage-uri URI, and takes no --dir")
        place = cluster.start(service, candidate, storage_uri, parsed, name)
        emit({"rollout": place}, json, title=f"Started; now: taoemb rollout watch --rollout {place}")
        return
    if folder is None or control is None:
        raise InputError("give --dir DIR and --control DIR (this machine), or --inference-service NAMESPACE/NAME")
    tree = _with_judge(with_uri(settings(config, set_), milvus), judge_url)
    from taoemb.rollout.local.start import start_local

    started = start_local(
        folder, parsed, control, candidate, tree, name=name, replicas=replicas, gateway_port=gateway_port, warn=warn
    )
    result = {"rollout": started.name, "gateway": started.backend.gateway_url(), "dir": str(folder)}
    emit(result, json, title=f"Started; now: taoemb rollout watch --dir {folder}")


@app.command()
def status(folder: DirOption = None, rollout: ResourceOption = None, json: JsonOption = False) -> None:
    """Say where the rollout stands and what was decided last."""
    here = here_or_there(folder, rollout)
    (local.status(here) if here is not None else cluster.status(str(rollout))).emit(json)


@app.command()
def watch(folder: DirOption = None, rollout: ResourceOption = None, json: JsonOption = False) -> None:
    """Follow the rollout to its end (on this machine: move it on); exit 0 promoted, 3 rolled back, 4 inconclusive."""
    here = here_or_there(folder, rollout)
    ended = local.watch(here, quiet=json) if here is not None else cluster.watch(str(rollout), quiet=json)
    ended.emit(json)
    raise typer.Exit(EXIT_CODES[ended.phase])


@app.command()
def promote(
    folder: DirOption = None, rollout: ResourceOption = None, why: WhyOption = "", json: JsonOption = False
) -> None:
    """Promote the candidate now, whatever was measured; its digest is read back first."""
    ended = _decide(folder, rollout, "promote", why, json)
    raise typer.Exit(0 if ended.phase == "Promoted" else 1)


@app.command()
def rollback(
    folder: DirOption = None, rollout: ResourceOption = None, why: WhyOption = "", json: JsonOption = False
) -> None:
    """Give all traffic back to the control now."""
    ended = _decide(folder, rollout, "rollback", why, json)
    raise typer.Exit(0 if ended.phase == "RolledBack" else 1)


@app.command()
def stop(
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Folder of the rollout.")],
    json: JsonOption = False,
) -> None:
    """End the encoders and the gateway of this machine; a rollout under way is rolled back first."""
    local.stop(folder, quiet=json).emit(json)


@app.command()
def report(
    folder: DirOption = None,
    rollout: ResourceOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for report.html and report.json.")
    ] = None,
    serve: Annotated[
        int | None, typer.Option("--serve", metavar="PORT", help="Serve the page as it stands instead.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to serve it on.")] = "127.0.0.1",
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Write the rollout's report, or serve it live; of a cluster's, from the events database of the settings."""
    import time

    if (out is None) == (serve is None):
        raise InputError("give either --out DIR or --serve PORT")
    here = here_or_there(folder, rollout)
    from taoemb.rollout.local.start import open_local
    from taoemb.rollout.measurement.for_people import write_waiting
    from taoemb.rollout.report.data import stored_report
    from taoemb.rollout.report.live import live_page
    from taoemb.rollout.report.page import write_report
    from taoemb.serving.events.store import EventStore

    if here is not None:
        there = open_local(here)
        name, events = there.name, there.config.events
    else:
        name, events = cluster.recorded_name(str(rollout)), settings(config, set_).events
    with EventStore(events) as store:
        if out is not None:
            written = write_report(stored_report(store, name, time.time()), out)
            asked = write_waiting(store, name, out / "people")
            emit({"report": str(written)} | ({"for people": str(asked)} if asked else {}), json, title="Report")
        elif serve is not None:
            with live_page(lambda: stored_report(store, name, time.time()), host, serve) as server:
                emit({"page": f"http://{host}:{server.server_address[1]}/"}, json)
                server.serve_forever()


@app.command()
def controller(
    namespace: Annotated[
        str, typer.Option("--namespace", help="Work on its EncoderRollouts only; default: all namespaces.")
    ] = "",
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Control the EncoderRollouts of a cluster until interrupted; several replicas elect one."""
    tree = settings(config, set_)
    from taoemb.rollout.controller.run import run_controller

    run_controller(tree, namespace)


for command in commands:
    app.command()(command)
app.command(name="list")(list_rollouts)
app.command()(simulate)


def _decide(folder: Path | None, rollout: str | None, action: "Action", why: str, json: bool) -> Shown:
    here = here_or_there(folder, rollout)
    if here is not None:
        ended = local.decide(here, action, why, quiet=json)
    else:
        ended = cluster.decide(str(rollout), action, why, quiet=json)
    ended.emit(json)
    return ended


def _with_judge(tree: "Config", url: str | None) -> "Config":
    """The settings with `--judge-url` in place of heldout_judge.url."""
    if url is None:
        return tree
    from taoemb.config import JudgeConfig

    like = tree.judge
    judge = tree.heldout_judge or JudgeConfig(rubric=like.rubric, item_tokens=like.item_tokens, cache=like.cache)
    return tree.model_copy(update={"heldout_judge": judge.model_copy(update={"url": url})})
