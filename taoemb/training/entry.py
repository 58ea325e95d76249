"""The one entry point of every training job: the same under python, torchrun, the DeepSpeed launcher or a TrainJob."""

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from taoemb.config import Config, load_config
from taoemb.data.dataset import open_dataset
from taoemb.encoder.release import load_release
from taoemb.errors import InputError, TaoembError
from taoemb.training.checkpoint import RunFolder, claim
from taoemb.training.context import Context, RunArguments
from taoemb.training.distributed import Ranks, joined_ranks
from taoemb.training.run import train

OBJECTIVES = ("sft", "grpo", "hard_negatives", "live_infonce")


def main(objective: str, argv: Sequence[str] | None = None) -> None:
    """Run one objective from command-line arguments; exits 0, 1 or 2 with one line on standard error."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    try:
        run(objective, _parse(objective, argv))
    except TaoembError as error:
        print(f"taoemb: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


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
    """Train, unless the run folder holds this very run finished. Raises TaoembError."""
    arguments, config = job
    folder = RunFolder(arguments.out)
    with joined_ranks() as ranks:
        parent = None if arguments.release is None else load_release(arguments.release)
        needed = ("items", "queries", "pairs")
        data = open_dataset(arguments.data, need=needed)
        if len(data.items) == 0:
            raise InputError(f"{arguments.data}: items.parquet has no rows; nothing to train on")
        context = Context(arguments, config, ranks, data, folder, parent)
        _claim(context, objective, ranks)
        if folder.summary.exists():
            return
        torch.manual_seed(config.engine.seed)
        module = importlib.import_module(f"taoemb.training.{objective}")
        built = module.build(context)
        try:
            train(context, built)
        finally:
            built.close()


def _claim(context: Context, objective: str, ranks: Ranks) -> None:
    """The main rank takes the folder; how a run is cut over ranks or where its judge lives does not make it another."""
    if not ranks.main:
        return
    config = context.config.model_dump(mode="json")
    settings = {name: config[name] for name in ("encoder", "rewards", "engine", objective)}
    for where in ("zero_stage", "banks"):
        settings["engine"].pop(where)
    identity = {
        "objective": objective,
        "data": str(context.arguments.data.resolve()),
        "parent": context.parent.manifest.digest if context.parent else None,
        **settings,
    }
    claim(context.folder, identity)
