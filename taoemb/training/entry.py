"""The one entry point of every training job: the same under python, torchrun, the DeepSpeed launcher or a TrainJob."""

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import torch

from taoemb.config import Config, load_config
from taoemb.data.dataset import open_dataset
from taoemb.encoder.release import load_release
from taoemb.encoder.remarks import warn_of
from taoemb.errors import InputError, TaoembError
from taoemb.training.checkpoint import Cut, check_cut
from taoemb.training.context import Context, RunArguments
from taoemb.training.distributed import Ranks, StoppedElsewhere, joined_ranks, on_main
from taoemb.training.folder import RunFolder, held
from taoemb.training.identity import Identity, asked, check, claim, grows, of_judges, of_run
from taoemb.training.run import train
from taoemb.training.teacher import NotAdmitted, hand_on

OBJECTIVES = ("sft", "grpo", "hard_negatives", "live_infonce")


def main(objective: str, argv: Sequence[str] | None = None) -> None:
    """Run one objective from command-line arguments; exits 0, 1, 2 or 130 with one line on standard error."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    try:
        run(objective, _parse(objective, argv))
    except StoppedElsewhere as error:
        sys.exit(error.exit_code)
    except TaoembError as error:
        _end(" ".join(str(error).split()), error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror or error}; mend that, then run the same command", 1)
    except KeyboardInterrupt:
        _end("interrupted before the first step", 130)


def _end(words: str, code: int) -> NoReturn:
    print(f"taoemb: {words}", file=sys.stderr, flush=True)
    sys.exit(code)


def _parse(objective: str, argv: Sequence[str] | None) -> tuple[RunArguments, Config]:
    parser = argparse.ArgumentParser(f"python -m taoemb.training.{objective}", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="dataset folder with items, queries and pairs")
    parser.add_argument("--out", type=Path, required=True, help="run folder: checkpoints, metrics, release")
    parser.add_argument("--release", type=Path, help="release to start from")
    parser.add_argument("--config", type=Path, help="YAML file of settings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)  # launchers may add it
    given = parser.parse_args(argv)
    return RunArguments(given.data, given.out, given.release), load_config(given.config, given.set)


def run(objective: str, job: tuple[RunArguments, Config]) -> None:
    """Train, unless the run folder holds this very run finished. Raises TaoembError.

    A run that is refused before its first step leaves nothing in the folder.
    """
    arguments, config = job
    folder = RunFolder(arguments.out)
    with joined_ranks() as ranks, ExitStack() as stack:
        on_main(ranks, lambda: stack.enter_context(held(folder)))
        context = _opened(arguments, config, ranks, folder)
        identity = on_main(ranks, lambda: _identity(context, objective))
        if folder.summary.exists() and not grows(folder, identity):
            if ranks.main:
                print(f"taoemb: {folder.root}: finished before; nothing trained", file=sys.stderr, flush=True)
            return
        torch.manual_seed(config.engine.seed)
        module = importlib.import_module(f"taoemb.training.{objective}")
        try:
            built = module.build(context)
        except NotAdmitted as error:
            refused = error
            on_main(ranks, lambda: _hand_on(context, identity, refused))
            return
        try:
            on_main(ranks, lambda: _claim(folder, identity | of_judges(built.judges())))
            train(context, built)
        finally:
            built.close()


def _opened(arguments: RunArguments, config: Config, ranks: Ranks, folder: RunFolder) -> Context:
    parent = None if arguments.release is None else load_release(arguments.release)
    data = open_dataset(arguments.data, need=("items", "queries", "pairs"))
    if len(data.items) == 0:
        raise InputError(f"{arguments.data}: items.parquet has no rows; nothing to train on")
    if parent is not None and ranks.main:
        warn_of(parent, config.encoder)
    return Context(arguments, config, ranks, data, folder, parent)


def _identity(context: Context, objective: str) -> Identity:
    """What run this is, but for what its judges say. Raises InputError when the folder holds another one."""
    folder, config, ranks = context.folder, context.config, context.ranks
    identity = of_run(objective, config, context.data, context.parent)
    check(folder, identity)
    if folder.summary.exists():
        check(folder, asked(identity, config))
    if not folder.summary.exists() or grows(folder, identity):
        check_cut(folder, Cut.of(config.engine, ranks))
    return identity


def _hand_on(context: Context, identity: Identity, refused: NotAdmitted) -> None:
    _claim(context.folder, identity | of_judges({"judge": refused.found.judge}))
    hand_on(context, refused)


def _claim(folder: RunFolder, identity: Identity) -> None:
    check(folder, identity)
    folder.summary.unlink(missing_ok=True)  # of the run with fewer steps
    claim(folder, identity)
