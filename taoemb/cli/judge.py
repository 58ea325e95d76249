"""`taoemb judge …`: train, serve and calibrate whatever grades (query, item) pairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings

app = typer.Typer(no_args_is_help=True, help="Train, serve and calibrate the judge that grades (query, item) pairs.")


@app.command()
def train(
    data: Annotated[list[Path], typer.Option("--data", help="Dataset folder with judgments (repeatable).")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the trained judge.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a cross-encoder judge from graded pairs."""
    tree = settings(config, set_)
    from taoemb.judge.train import train_judge

    result = train_judge(data, out, tree.judge_train)
    held_out = result["held_out"]
    rows = [("folder", out), ("digest", result["digest"]), ("trained on pairs", result["trained_on"]["pairs"])]
    rows += [("held-out queries", held_out["queries"]), *_agreement_rows(held_out)]
    emit(result, as_json, title="Judge", table=(("", ""), rows))


@app.command()
def calibrate(
    data: Annotated[Path, typer.Option("--data", help="Dataset folder with human judgments.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for calibration.json and calibration.html.")],
    judge_url: Annotated[str | None, typer.Option("--judge-url", help="Base URL of the judge, …/openai/v1.")] = None,
    judge: Annotated[Path | None, typer.Option("--judge", help="Judge folder to serve and measure.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only judgments of this source.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how a judge agrees with human grades."""
    tree = settings(config, set_)
    endpoint = tree.judge
    if judge is not None:
        endpoint = endpoint.model_copy(update={"url": None})
    if judge_url is not None:
        endpoint = endpoint.model_copy(update={"url": judge_url})
    from taoemb.judge.calibrate import calibrate as measure

    result = measure(data, endpoint, out, judge=judge, source=source)
    rows = [("page", out / "calibration.html"), ("judge", result["judge"]["release"]), ("pairs", result["pairs"])]
    rows += [("unanswered", result["unanswered"]), *_agreement_rows(result["measures"]["all"])]
    emit(result, as_json, title="Calibration", table=(("", ""), rows))


def _agreement_rows(measures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A line a measure: its value and interval."""
    rows: list[tuple[str, Any]] = []
    for name in ("auc", "pair_accuracy", "kappa", "brier", "ece"):
        entry = measures[name]
        shown = "undefined here" if entry["value"] is None else f"{entry['value']:.3f}"
        between = "" if entry["low"] is None else f"  [{entry['low']:.3f}, {entry['high']:.3f}]"
        rows.append((name.replace("_", " "), shown + between))
    return rows


@app.command()
def serve(
    model: Annotated[str, typer.Option("--model", help="Folder of a trained judge or a causal LM, or a hub id.")],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="HTTP port.")] = 8081,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 in a container.")] = "127.0.0.1",
    name: Annotated[str, typer.Option("--name", help="Model name in requests.")] = "judge",
    exit_with_parent: Annotated[bool, typer.Option("--exit-with-parent", hidden=True)] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a judge behind OpenAI chat completions (a KServe model server) until interrupted."""
    tree = settings(config, set_)
    from taoemb.judge.server import serve as run

    run(
        model,
        port=port,
        host=host,
        name=name,
        config=tree.judge_server,
        logs=tree.logs,
        exit_with_parent=exit_with_parent,
    )
