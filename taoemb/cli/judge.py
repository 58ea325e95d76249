"""`taoemb judge …`: train, serve and calibrate whatever grades (query, item) pairs."""

from pathlib import Path
from typing import Annotated

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

    emit(train_judge(data, out, tree.judge_train), as_json, title="Judge")


@app.command()
def calibrate(
    data: Annotated[Path, typer.Option("--data", help="Dataset folder with human judgments.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for metrics and the reliability plot.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how a judge agrees with human grades."""
    tree = settings(config, set_)
    from taoemb.judge.calibrate import calibrate as measure

    emit(measure(data, tree.judge, out), as_json, title="Calibration")


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

    run(model, port=port, host=host, name=name, config=tree.judge_server, exit_with_parent=exit_with_parent)
