"""`taoemb train …`: train an encoder here or, with `--set job.backend=trainjob`, on a cluster: the same entry point."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings

if TYPE_CHECKING:
    from taoemb.config import Config

app = typer.Typer(no_args_is_help=True, help="Train the encoder: SFT, Retrieval-GRPO and the baselines.")

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Dataset with items, queries and pairs.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Run folder; the same folder resumes a run.")]
ReleaseOption = Annotated[Path, typer.Option("--release", metavar="DIR", help="Release to start from.")]
RanksOption = Annotated[
    int | None, typer.Option("--ranks", min=1, metavar="N", help="Processes on a machine.", show_default="job.ranks")
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="On a cluster: start it and return; the same command follows it later.")
]
RenderOption = Annotated[bool, typer.Option("--render", help="Print the TrainJob as YAML and start nothing.")]


@app.command()
def sft(
    data: DataOption,
    out: OutOption,
    release: Annotated[
        Path | None, typer.Option("--release", metavar="DIR", help="Start from a release, not from encoder.model.")
    ] = None,
    ranks: RanksOption = None,
    detach: DetachOption = False,
    render: RenderOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Supervised fine-tuning: InfoNCE over in-batch and global random negatives."""
    run = Run("sft", data, out, release, ranks, detach, render, as_json)
    _train(run, settings(config, overrides))


def _baseline(objective: str) -> Callable[..., None]:
    """The command of an objective that starts from a release and needs no judge."""

    def command(
        data: DataOption,
        out: OutOption,
        release: ReleaseOption,
        ranks: RanksOption = None,
        detach: DetachOption = False,
        render: RenderOption = False,
        config: ConfigOption = None,
        overrides: SetOption = None,
        as_json: JsonOption = False,
    ) -> None:
        run = Run(objective, data, out, release, ranks, detach, render, as_json)
        _train(run, settings(config, overrides))

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
    ranks: RanksOption = None,
    detach: DetachOption = False,
    render: RenderOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrieval-GRPO: Top-K by the current model, graded live by a judge."""
    run = Run("grpo", data, out, release, ranks, detach, render, as_json)
    tree = settings(config, overrides)
    if tree.job.backend != "local" and (judge is not None or heldout_judge is not None):
        _refuse_judges_of_this_machine()
    with _judges(judge_url, judge, heldout_judge) as extra:
        _train(run, settings(config, [*(overrides or ()), *extra]))


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


def _refuse_judges_of_this_machine() -> None:
    from taoemb.errors import InputError

    raise InputError(
        "--judge, --heldout-judge: a judge served here can't be reached from a cluster; give --judge-url, and "
        "--set heldout_judge.url=…"
    )


@dataclass(frozen=True)
class Run:
    """What a command was asked."""

    objective: str
    data: Path
    out: Path
    release: Path | None
    ranks: int | None
    detach: bool
    render: bool
    as_json: bool


def _train(run: Run, tree: "Config") -> None:
    """Run the job and print its summary, as far as this machine can see it."""
    from taoemb.errors import InputError
    from taoemb.jobs.training import render_training, run_training, training_work

    if run.ranks is not None:
        tree = tree.model_copy(update={"job": tree.job.model_copy(update={"ranks": run.ranks})})
    work = training_work(run.objective, run.data, run.out, run.release, tree)
    if run.render:
        if tree.job.backend == "local":
            raise InputError("--render: only a cluster has a TrainJob; add --set job.backend=trainjob")
        import yaml

        print(yaml.safe_dump(render_training(work, tree).body, sort_keys=False), end="")
        return
    finished = run.out / "summary.json"
    before = finished.read_bytes() if finished.is_file() else b""
    run_training(work, tree, detach=run.detach)
    if run.detach or not finished.is_file():
        emit({"job": work.name, "out": str(run.out), "state": "submitted" if run.detach else "done"}, run.as_json)
        return
    summary = json.loads(finished.read_text(encoding="utf-8"))
    summary["finished_before"] = finished.read_bytes() == before
    rows = [(name, summary[name]) for name in ("release", "digest", "steps", "resumed_at", "seconds")]
    rows += [(name, value) for name, value in summary["last"].items() if not name.startswith("time/")]
    emit(summary, run.as_json, table=(("", ""), rows))
