"""`taoemb rollout …`: roll a release out, watch it, decide by hand, and read what it found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, Table, emit, settings
from taoemb.cli.publish import MilvusOption, with_uri
from taoemb.cli.simulate import simulate

if TYPE_CHECKING:
    from taoemb.config import Config
    from taoemb.rollout.state import Action, RolloutState

app = typer.Typer(no_args_is_help=True, help="Roll a release out by live traffic, and decide by what it measures.")
EXIT_CODES = {"Promoted": 0, "RolledBack": 3, "Inconclusive": 4, "Failed": 1}
DirOption = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Folder of the rollout.")]
WhyOption = Annotated[str, typer.Option("--why", help="Reason, kept for audit.")]
app.command()(simulate)


@app.command()
def start(
    plan: Annotated[Path, typer.Option("--plan", metavar="FILE", help="The plan (YAML).")],
    control: Annotated[Path, typer.Option("--control", metavar="DIR", help="Release that serves now.")],
    candidate: Annotated[Path, typer.Option("--candidate", metavar="DIR", help="Release to roll out.")],
    folder: DirOption,
    milvus: MilvusOption = None,
    judge_url: Annotated[
        str | None, typer.Option("--judge-url", help="Judge that grades pages, …/openai/v1; none that gave reward.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the rollout; default: digest and time.")] = None,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=16, help="Encoders of each arm.")] = 1,
    gateway_port: Annotated[
        int | None, typer.Option("--gateway-port", min=1, max=65535, help="Port of the gateway; default: a free one.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Start the control's encoders and the gateway on this machine, and put a rollout on record; then `watch` it."""
    tree = _with_judge(with_uri(settings(config, set_), milvus), judge_url)
    from taoemb.rollout.local_start import start_local
    from taoemb.rollout.plan import load_plan

    parsed = load_plan(plan)
    started = start_local(
        folder,
        parsed,
        control,
        candidate,
        tree,
        name=name,
        replicas=replicas,
        gateway_port=gateway_port,
        warn=_warn,
    )
    result = {"rollout": started.name, "gateway": started.backend.gateway_url(), "dir": str(folder)}
    emit(result, json, title=f"Started; now: taoemb rollout watch --dir {folder}")


@app.command()
def status(folder: DirOption, json: JsonOption = False) -> None:
    """Say where the rollout stands and what was decided last."""
    from taoemb.rollout.drive import stored
    from taoemb.rollout.local_start import open_local
    from taoemb.serving.store import EventStore

    there = open_local(folder)
    with EventStore(there.config.events) as store:
        _, plan, state = stored(store.rollouts, there.name)
        decision = store.rollouts.last_decision(there.name)
    reasons = [] if decision is None else list(decision.verdict["reasons"])
    gateway = there.backend.gateway_url()
    if json:
        emit(_as_result(state) | {"gateway": gateway, "reasons": reasons}, as_json=True)
        return
    share = plan.steps[state.step].percent if state.phase == "Stepping" else None
    rows: list[tuple[Any, Any]] = [("phase", state.phase), ("why", state.reason)]
    rows += [("step", f"{state.step + 1} of {len(plan.steps)}, {share:g} %")] if share is not None else []
    rows += [("waits for", state.message)] if state.message else []
    rows += [("control", state.control[:16]), ("candidate", state.candidate.release[:16])]
    rows += [("gateway", gateway or "stopped"), ("looks", state.looks)]
    rows += [(reason["check"], reason["text"]) for reason in reasons]
    emit({}, as_json=False, title=f"Rollout {state.name}", table=(("", ""), rows))


@app.command()
def watch(folder: DirOption, json: JsonOption = False) -> None:
    """Move the rollout on until it ends; exit 0: promoted, 3: rolled back, 4: inconclusive, 1: failed."""
    raise typer.Exit(_end(_drive(folder, quiet=json), json))


@app.command()
def promote(folder: DirOption, why: WhyOption = "", json: JsonOption = False) -> None:
    """Promote the candidate now, whatever was measured; its digest is read back first."""
    raise typer.Exit(0 if _decide(folder, "promote", why, json) == "Promoted" else 1)


@app.command()
def rollback(folder: DirOption, why: WhyOption = "", json: JsonOption = False) -> None:
    """Give all traffic back to the control now."""
    raise typer.Exit(0 if _decide(folder, "rollback", why, json) == "RolledBack" else 1)


@app.command()
def stop(folder: DirOption, json: JsonOption = False) -> None:
    """End the encoders and the gateway of this machine; a rollout under way is rolled back first."""
    from taoemb.rollout.drive import ask, stored
    from taoemb.rollout.local_start import open_local
    from taoemb.serving.store import EventStore

    there = open_local(folder)
    with EventStore(there.config.events) as store:
        _, _, state = stored(store.rollouts, there.name)
        if not state.ended and state.phase not in ("RollingBack", "Promoting"):
            ask(store.rollouts, there.name, "rollback", "stopped")
    if not state.ended:
        state = _drive(folder, quiet=json)
    there.backend.stop()
    emit({"rollout": state.name, "phase": state.phase, "stopped": str(folder)}, json, title="Stopped")


@app.command()
def report(
    folder: DirOption,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for report.html and report.json.")
    ] = None,
    serve: Annotated[
        int | None, typer.Option("--serve", metavar="PORT", help="Serve the page as it stands instead.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to serve it on.")] = "127.0.0.1",
    json: JsonOption = False,
) -> None:
    """Write the rollout's report, or serve it live."""
    import time

    from taoemb.errors import InputError
    from taoemb.rollout.local_start import open_local
    from taoemb.rollout.report import write_report
    from taoemb.rollout.report_data import stored_report
    from taoemb.rollout.report_live import live_page
    from taoemb.serving.store import EventStore

    if (out is None) == (serve is None):
        raise InputError("give either --out DIR or --serve PORT")
    there = open_local(folder)
    with EventStore(there.config.events) as store:
        if serve is not None:
            with live_page(lambda: stored_report(store, there.name, time.time()), host, serve) as server:
                emit({"page": f"http://{host}:{server.server_address[1]}/"}, json)
                server.serve_forever()
        elif out is not None:
            written = write_report(stored_report(store, there.name, time.time()), out)
            emit({"report": str(written)}, json, title="Report")


def _drive(folder: Path, quiet: bool) -> "RolloutState":
    """Tick the folder's rollout to its end, saying each look unless `quiet`."""
    from taoemb.rollout.local_start import open_local
    from taoemb.rollout.local_watch import watch_local

    return watch_local(open_local(folder), say=_nothing if quiet else _say, warn=_warn)


def _decide(folder: Path, action: "Action", why: str, json: bool) -> str:
    from taoemb.rollout.drive import ask
    from taoemb.rollout.local_start import open_local
    from taoemb.serving.store import EventStore

    there = open_local(folder)
    with EventStore(there.config.events) as store:
        ask(store.rollouts, there.name, action, why)
    state = _drive(folder, quiet=json)
    _end(state, json)
    return state.phase


def _end(state: "RolloutState", json: bool) -> int:
    rows: Table = (("", ""), [("ended as", state.phase), ("why", state.reason)])
    emit(_as_result(state), json, title=f"Rollout {state.name}", table=rows)
    return EXIT_CODES[state.phase]


def _as_result(state: "RolloutState") -> dict[str, Any]:
    from taoemb.rollout.state import to_json

    return to_json(state) | {"reason": state.reason, "ended": state.ended}


def _with_judge(tree: "Config", url: str | None) -> "Config":
    """The settings with `--judge-url` in place of heldout_judge.url."""
    if url is None:
        return tree
    from taoemb.config import JudgeConfig

    like = tree.judge
    judge = tree.heldout_judge or JudgeConfig(rubric=like.rubric, item_tokens=like.item_tokens, cache=like.cache)
    return tree.model_copy(update={"heldout_judge": judge.model_copy(update={"url": url})})


def _say(text: str) -> None:
    print(text, flush=True)


def _nothing(text: str) -> None:
    """For programs, which read the result only."""


def _warn(text: str) -> None:
    typer.echo(f"taoemb: {text}", err=True)
