"""`taoemb judge …`: train, serve and calibrate whatever grades (query, item) pairs."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings

if TYPE_CHECKING:
    from taoemb.config import JudgeConfig

app = typer.Typer(no_args_is_help=True, help="Train, serve and try the judge that grades (query, item) pairs.")


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
    endpoint = _endpoint(tree.judge, judge_url, judge)
    from taoemb.judge.calibrate import calibrate as measure

    result = measure(data, endpoint, out, judge=judge, source=source)
    rows = [("page", out / "calibration.html"), ("judge", result["judge"]["release"]), ("pairs", result["pairs"])]
    rows += [("unanswered", result["unanswered"]), *_agreement_rows(result["measures"]["all"])]
    emit(result, as_json, title="Calibration", table=(("", ""), rows))


@app.command()
def admit(
    release: Annotated[Path, typer.Option("--release", help="Release that the judge is to teach.")],
    data: Annotated[Path, typer.Option("--data", help="Dataset folder with judgments that trained neither.")],
    judge_url: Annotated[str | None, typer.Option("--judge-url", help="Base URL of the judge, …/openai/v1.")] = None,
    judge: Annotated[Path | None, typer.Option("--judge", help="Judge folder to serve and try.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try whether a judge orders graded pairs surely better than the encoder that it is to teach; exit 1 if not."""
    tree = settings(config, set_)
    from taoemb.data.dataset import open_dataset
    from taoemb.encoder.release import load_release
    from taoemb.errors import TaoembError
    from taoemb.judge.admission import admission, words_of
    from taoemb.judge.local import asked_judge

    opened = load_release(release), open_dataset(data, need=("items", "queries", "judgments"), every_judgment=True)
    with asked_judge(_endpoint(tree.judge, judge_url, judge), judge, "admit") as client:
        found = admission(client, *opened, limit=tree.grpo.admission_pairs, seed=tree.engine.seed)
    emit(dataclasses.asdict(found), as_json, title="Admission", table=(("", ""), words_of(found)))
    if not found.admitted:
        raise TaoembError(f"not admitted: {found.line}")


def _endpoint(config: "JudgeConfig", url: str | None, judge: Path | None) -> "JudgeConfig":
    """The judge of the options: a folder goes before the settings' URL, and an option before both."""
    if judge is not None:
        config = config.model_copy(update={"url": None})
    return config if url is None else config.model_copy(update={"url": url})


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
