"""The `taoemb` command: gathers the nouns and turns failures into one line and an exit code."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import typer

from taoemb import __version__
from taoemb.cli import data, demo, evaluate, judge, pipeline, publish, releases, rollout, search, serve, train
from taoemb.config import let_threads_sleep
from taoemb.errors import TaoembError

app = typer.Typer(
    help="Train, publish and roll out a dense-retrieval encoder with Retrieval-GRPO.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
for noun, group in {
    "data": data.app,
    "judge": judge.app,
    "train": train.app,
    "releases": releases.app,
    "pipeline": pipeline.app,
    "rollout": rollout.app,
    "serve": serve.app,
}.items():
    app.add_typer(group, name=noun)
_verbs: dict[str, Callable[..., None]] = {
    "evaluate": evaluate.evaluate,
    "publish": publish.publish,
    "search": search.search,
    "demo": demo.demo,
}
for verb, command in _verbs.items():
    app.command(verb)(command)


# typer carries a click of its own; the base of all its usage errors is public only through this class.
_UsageFailure: Any = typer.BadParameter.__mro__[2]


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show a traceback on failure (anywhere on the line)."),
) -> None:
    """Train, publish and roll out a dense-retrieval encoder with Retrieval-GRPO."""


def _one_line(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    print(f"taoemb: {kind.__name__}: {error}; run again with --debug for the traceback", file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    """Run the command line: exit 0 done, 1 failed while running, 2 bad usage or bad input."""
    let_threads_sleep()
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    if debug:
        args.remove("--debug")
    try:
        code = app(args, standalone_mode=False)
    except _UsageFailure as error:
        message = error.format_message()  # a bare noun gives its whole help
        print(message if message.startswith("Usage:") else f"taoemb: {message}; see --help", file=sys.stderr)
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        print("taoemb: interrupted", file=sys.stderr)
        code = 130
    except TaoembError as error:
        if debug:
            raise
        print(f"taoemb: {' '.join(str(error).split())}", file=sys.stderr)
        code = error.exit_code
    finally:
        sys.excepthook = sys.__excepthook__ if debug else _one_line  # typer has set its own
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
