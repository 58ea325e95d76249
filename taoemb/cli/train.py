"""`taoemb train …`: train an encoder on this machine, with any number of local ranks."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings

app = typer.Typer(no_args_is_help=True, help="Train the encoder: SFT, Retrieval-GRPO and the baselines.")

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Dataset with items, queries and pairs.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Run folder; the same folder resumes a run.")]
ReleaseOption = Annotated[Path, typer.Option("--release", metavar="DIR", help="Release to start from.")]
RanksOption = Annotated[int, typer.Option("--ranks", metavar="N", help="Local processes.")]


@app.command()
def sft(
    data: DataOption,
    out: OutOption,
    release: Annotated[
        Path | None, typer.Option("--release", metavar="DIR", help="Start from a release, not from encoder.model.")
    ] = None,
    ranks: RanksOption = 1,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Supervised fine-tuning: InfoNCE over in-batch and global random negatives."""
    settings(config, overrides)
    _train("sft", _arguments(data, out, release, config, overrides), out, ranks, as_json)


def _baseline(objective: str) -> Callable[..., None]:
    """The command of an objective that starts from a release and needs no judge."""

    def command(
        data: DataOption,
        out: OutOption,
        release: ReleaseOption,
        ranks: RanksOption = 1,
        config: ConfigOption = None,
        overrides: SetOption = None,
        as_json: JsonOption = False,
    ) -> None:
        settings(config, overrides)
        _train(objective, _arguments(data, out, release, config, overrides), out, ranks, as_json)

    return command


_HARD_NEGATIVES = "Baseline: SFT with hard negatives mined offline by the starting encoder."
_LIVE_INFONCE = "Control: InfoNCE against the model's own live Top-K, without a judge."
app.command("hard-negatives", help=_HARD_NEGATIVES)(_baseline("hard_negatives"))
app.command("live-infonce", help=_LIVE_INFONCE)(_baseline("live_infonce"))


@app.command()
def grpo(
    data: DataOption,
    out: OutOption,
    release: ReleaseOption,
    judge_url: Annotated[
        str | None, typer.Option("--judge-url", metavar="URL", help="OpenAI routes of a running judge (…/openai/v1).")
    ] = None,
    judge: Annotated[
        Path | None, typer.Option("--judge", metavar="DIR", help="Judge to serve here for the time of the run.")
    ] = None,
    heldout_judge: Annotated[
        Path | None, typer.Option("--heldout-judge", metavar="DIR", help="A second judge that watches the run.")
    ] = None,
    ranks: RanksOption = 1,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrieval-GRPO: Top-K by the current model, graded live by a judge."""
    settings(config, overrides)
    with _judges(judge_url, judge, heldout_judge) as extra:
        arguments = _arguments(data, out, release, config, [*(overrides or ()), *extra])
        _train("grpo", arguments, out, ranks, as_json)


@contextmanager
def _judges(url: str | None, judge: Path | None, heldout: Path | None) -> Iterator[list[str]]:
    """Settings that point at the judges, which are served here when folders are given."""
    from taoemb.errors import InputError
    from taoemb.judge.local import running_judge

    if url is not None and judge is not None:
        raise InputError("--judge-url and --judge: give one of them")
    with ExitStack() as stack:
        extra = [] if url is None else [f"judge.url={url}"]
        if judge is not None:
            # A judge served here answers whole batches; pairs a request would only cost time.
            extra = [f"judge.url={stack.enter_context(running_judge(judge))}", "judge.batch_size=64"]
        if heldout is not None:
            served = stack.enter_context(running_judge(heldout, name="heldout-judge"))
            extra += [f"heldout_judge.url={served}", "heldout_judge.batch_size=64"]
        yield extra


def _arguments(
    data: Path, out: Path, release: Path | None, config: Path | None, overrides: list[str] | None
) -> list[str]:
    arguments = ["--data", str(data), "--out", str(out)]
    if release is not None:
        arguments += ["--release", str(release)]
    if config is not None:
        arguments += ["--config", str(config)]
    for override in overrides or ():
        arguments += ["--set", override]
    return arguments


def _train(objective: str, arguments: list[str], out: Path, ranks: int, as_json: bool) -> None:
    """Run the job and print its summary."""
    from taoemb.jobs.local import launch

    launch(objective, arguments, ranks)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    rows = [(name, summary[name]) for name in ("release", "digest", "steps", "resumed_at", "seconds")]
    rows += [(name, value) for name, value in summary["last"].items() if not name.startswith("time/")]
    emit(summary, as_json, table=(("", ""), rows))
