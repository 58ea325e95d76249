"""The `taoemb` command: gathers the nouns and turns failures into one line and an exit code."""

import io
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import typer

from taoemb import __version__
from taoemb.cli import data, demo, evaluate, judge, pipeline, publish, releases, rollout, search, serve, train
from taoemb.errors import TaoembError
from taoemb.plain import keep_secrets_out_of_logs, one_line, without_secrets
from taoemb.storage import refusal

INTERRUPTED = 130  # as a shell says of a program that SIGINT ended

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
    from taoemb.config import let_threads_sleep  # here: help must not wait for the settings tree

    let_threads_sleep()
    keep_secrets_out_of_logs()


def _unforeseen(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    _tell(f"{kind.__name__}: {error}; run again with --debug for the traceback")


def _tell(message: object) -> None:
    """The one line of a failure, whatever names and titles it quotes."""
    print(f"taoemb: {one_line(without_secrets(' '.join(str(message).split())))}", file=sys.stderr)


def _speak_any_text() -> None:
    """What the terminal's encoding lacks is printed as an escape; a lone surrogate as well."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: list[str] | None = None) -> None:
    """Run the command line: exit 0 done, 1 failed while running, 2 bad usage or bad input, 130 interrupted."""
    _speak_any_text()
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    if debug:
        args.remove("--debug")
    try:
        code = app(args, standalone_mode=False)
        if code == INTERRUPTED:  # typer turns an interrupt of the command into this
            _tell("interrupted")
        sys.stdout.flush()
    except _UsageFailure as error:
        message = error.format_message()  # a bare noun gives its whole help
        if message.startswith("Usage:"):
            print(message, file=sys.stderr)
        else:
            _tell(f"{message}; see --help")
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _tell("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read standard output has gone, e.g. `| head`
        _close_output()
        code = 1
    except (TaoembError, OSError) as error:
        if debug:
            raise
        told = error if isinstance(error, TaoembError) else _refused(error)
        _tell(told)
        _close_output()
        code = told.exit_code
    finally:
        sys.excepthook = sys.__excepthook__ if debug else _unforeseen  # typer has set its own
    sys.exit(code or 0)


def _close_output() -> None:
    """Let the interpreter's own flush at exit not fail where this one did."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refused(error: OSError) -> TaoembError:
    """A file or folder that the disk refuses; another OSError (of the network) has no file."""
    if error.filename is None:
        return TaoembError(f"{type(error).__name__}: {error}; run again with --debug for the traceback")
    return refusal(os.fsdecode(error.filename), error)


if __name__ == "__main__":
    main()
