"""Before Retrieval-GRPO embeds anything: does its judge know more than the release that it is to teach?"""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from taoemb.config import GRPOConfig
from taoemb.data.dataset import Dataset, open_dataset
from taoemb.encoder.release import Release, load_release
from taoemb.errors import InputError, TaoembError
from taoemb.judge.admission import Admission, admission
from taoemb.judge.client import JudgeClient
from taoemb.storage import new_folder
from taoemb.training.context import Context
from taoemb.training.distributed import on_main
from taoemb.training.folder import check_room, write_json


class NotAdmitted(Exception):
    """The judge may not teach, and the settings say to go on with the release untrained."""

    def __init__(self, found: Admission) -> None:
        super().__init__(found.line)
        self.found = found


def admit(context: Context, parent: Release, judge: JudgeClient) -> Admission | None:
    """Try the judge, by one rank, unless `grpo.admission` is `off`; every rank gets what came out.

    Raises TaoembError when it is not admitted and `grpo.admission` is `refuse`, NotAdmitted (on every rank) when it is
    `continue-sft`; `warn` says so on standard error. InputError for data that nothing can be tried on.
    """
    config = context.config.grpo
    if config.admission == "off":
        return None
    found = on_main(context.ranks, lambda: _try(context, config, parent, judge))
    if found.admitted:
        return found
    if config.admission == "continue-sft":
        raise NotAdmitted(found)
    if context.ranks.main:
        print(f"warning: the judge is not admitted: {found.line}", file=sys.stderr, flush=True)
    return found


def _try(context: Context, config: GRPOConfig, parent: Release, judge: JudgeClient) -> Admission:
    graded, device = _graded(context.data, config.admission_data), context.ranks.device
    with torch.random.fork_rng():  # the run's own random numbers are the same with and without
        found = admission(judge, parent, graded, limit=config.admission_pairs, seed=context.seed, device=device)
    if not found.admitted and config.admission == "refuse":
        raise TaoembError(
            f"grpo.admission: the judge is not admitted: {found.line}; take a better one, or train "
            "on with grpo.admission=warn"
        )
    return found


def _graded(data: Dataset, other: Path | None) -> Dataset:
    """With every judgment: one of people counts before one of rules for the same pair."""
    if other is None and data.judgments is None:
        raise InputError(
            f"{data.root}: has no judgments.parquet to try the judge on: give grpo.admission_data, a folder with "
            "graded pairs, or grpo.admission=off"
        )
    return open_dataset(other or data.root, need=("items", "queries", "judgments"), every_judgment=True)


def hand_on(context: Context, refused: NotAdmitted) -> None:
    """End the run without a step (main rank): its release is the one that it started from."""
    parent, folder = context.parent, context.folder
    assert parent is not None
    check_room(folder, sum(file.stat().st_size for file in parent.path.rglob("*") if file.is_file()), 0, 1)
    if not folder.release.exists():
        with new_folder(folder.release) as fresh:
            shutil.copytree(parent.path, fresh, dirs_exist_ok=True)
    release = load_release(folder.release)
    summary = {"release": str(release.path), "digest": release.manifest.digest, "steps": 0, "resumed_at": 0}
    told = {"objective": "grpo", "admission": asdict(refused.found), "alarms": [f"not admitted: {refused}"]}
    judges = {"reward_judges": list(release.manifest.training.get("reward_judges", ()))}
    write_json(folder.summary, summary | told | judges | {"last": {}})
    print(f"warning: the judge is not admitted; the release goes on untrained: {refused}", file=sys.stderr, flush=True)
