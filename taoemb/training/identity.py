"""What makes a run this run: by content, so that a moved folder is the same run and a changed row is another one.

A run's identity is one flat table, key → value. It holds every setting that the objective reads, except those that
:data:`MAY_CHANGE` lists: whoever adds a setting changes the identity unless he says there why it changes no number.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel

from taoemb.config import Config
from taoemb.data.dataset import Dataset
from taoemb.data.fingerprint import training_fingerprints
from taoemb.encoder.manifest import MANIFEST, hash_files, read_manifest
from taoemb.encoder.release import Release
from taoemb.encoder.sources import find_model
from taoemb.errors import InputError
from taoemb.judge.client import JudgeClient, JudgeUnavailable
from taoemb.judge.prompt import load_rubric
from taoemb.training.folder import RunFolder, write_json

Identity = dict[str, Any]

FORMAT = 2  # of run.json
ASKED_S = 5.0  # that a judge is waited for only to compare its name
JUDGES = ("judge", "heldout_judge")
READS = {
    "sft": ("encoder", "engine", "sft"),
    "hard_negatives": ("encoder", "engine", "hard_negatives"),
    "live_infonce": ("encoder", "engine", "live_infonce"),
    "grpo": ("encoder", "engine", "grpo", "rewards", "judge", "heldout_judge"),
}
"""The sections of the settings that an objective reads."""

MAY_CHANGE = {
    "where the data, the release and the model lie": "their content counts",
    "the number of ranks": "batches are over all ranks; with `engine.zero_stage` 0 only",
    "engine.zero_stage": "how a run is cut over ranks; a checkpoint is read at the stage that wrote it",
    "engine.offload": "where the optimiser's state is kept; a checkpoint is read with the offload that wrote it",
    "engine.gradient_checkpointing": "memory against time",
    "engine.banks": "where embedded catalogues are kept",
    "engine.checkpoint_every": "unless the items' encoder moves: its index is embedded at checkpoints",
    "engine.keep_checkpoints": "disk",
    "engine.log_every": "what is written of a run",
    "engine.trackers": "what is written of a run",
    "engine.mlflow_uri": "what is written of a run",
    "engine.metrics_port": "what is written of a run",
    "engine.metrics_host": "what is written of a run",
    "engine.collapse_cosine": "an alarm",
    "grpo.admission_data": "what the judge is tried on before a step",
    "grpo.admission_pairs": "how much it is tried",
    "judge.url": "where the judge answers; its release, rubric and limits count",
    "judge.model": "its name there",
    "judge.api_key_file": "how it is reached",
    "judge.concurrency": "how it is asked",
    "judge.batch_size": "how it is asked",
    "judge.timeout_s": "how long it is waited for",
    "judge.wait_s": "how long it is waited for",
    "judge.max_unanswered": "when the run stops",
    "judge.cache": "where judgments are kept",
}
"""What may be another when a run goes on, and why it changes no number. The same holds for heldout_judge."""

_WITH_MOVING_ITEMS = {"engine.checkpoint_every"}
_OF_THE_RELEASE = {
    f"encoder.{name}"
    for name in ("pooling", "query_template", "item_template", "max_query_tokens", "max_item_tokens", "dimension")
}
"""What a release has settled: with --release these settings are not read."""


def of_run(objective: str, config: Config, data: Dataset, parent: Release | None) -> Identity:
    """The identity of a run, but for what only its judges can say (:func:`of_judges`)."""
    read: Identity = {}
    for section in READS[objective]:
        if section == "heldout_judge" and not config.grpo.heldout_every:
            continue
        read |= dict(_flat(section, dict(config)[section], config.model_dump(mode="json")[section]))
    for name in JUDGES:
        if f"{name}.rubric" in read:
            read[f"{name}.rubric"] = load_rubric(read[f"{name}.rubric"]).digest
        if read.get(f"{name}.release", "") is None:  # the judge itself will say
            del read[f"{name}.release"]
    left_out = set(MAY_CHANGE) | {"encoder.model"}
    if _items_move(objective, config):
        left_out -= _WITH_MOVING_ITEMS
    if parent is not None:
        left_out |= _OF_THE_RELEASE
    kept = {key: value for key, value in read.items() if key.replace("heldout_judge.", "judge.") not in left_out}
    tables = {f"data.{name}": digest for name, digest in training_fingerprints(data).items()}
    return {"objective": objective, "start": _start(config, parent)} | tables | kept


def of_judges(releases: Mapping[str, str]) -> Identity:
    """What judges answer when they are asked who they are, by their section of the settings."""
    return {f"{name}.release": release for name, release in releases.items()}


def asked(identity: Identity, config: Config) -> Identity:
    """What the judges of a finished run say; one that is away is not waited for, and so not compared."""
    releases = {}
    for name, settings in (("judge", config.judge), ("heldout_judge", config.heldout_judge)):
        if settings is None or f"{name}.rubric" not in identity or f"{name}.release" in identity:
            continue
        hasty = settings.model_copy(update={"cache": None, "wait_s": min(settings.wait_s, ASKED_S)})
        with JudgeClient(hasty) as judge, suppress(JudgeUnavailable):
            releases[name] = judge.release
    return of_judges(releases)


def check(folder: RunFolder, identity: Identity) -> None:
    """Raises InputError when the folder holds another run than `identity` says, naming the first key that differs.

    Keys that `identity` lacks are not compared: what a judge says is known later.
    """
    held = _held(folder)
    if held is None:
        return
    for key, value in json.loads(json.dumps(identity)).items():
        if value == held.get(key):
            continue
        if key.endswith(".steps") and _may_grow(identity, held, key):
            continue
        values = f"{_shown(held.get(key))}, now {_shown(value)}"
        raise InputError(
            f"{folder.root}: holds a run with other {_said(key)} ({values}){_why(key)}; "
            "give another --out, or remove the folder to start again"
        )


def grows(folder: RunFolder, identity: Identity) -> bool:
    """Whether the folder holds this run with fewer steps."""
    held = _held(folder)
    steps = f"{identity['objective']}.steps"
    return held is not None and held.get(steps) != identity[steps]


def claim(folder: RunFolder, identity: Identity) -> None:
    """Say in the folder what run it holds."""
    write_json(folder.marker, {"format": FORMAT, "run": identity})


def _held(folder: RunFolder) -> Identity | None:
    """The identity of the run that the folder holds; None when no run has begun there."""
    if not folder.begun() or not folder.marker.is_file():
        return None
    marker = json.loads(folder.marker.read_text(encoding="utf-8"))
    if marker.get("format") != FORMAT:
        raise InputError(
            f"{folder.root}: holds a run of an earlier version, which did not note its data; give another --out, or "
            "remove the folder to start again"
        )
    return dict(marker["run"])


def _flat(prefix: str, model: Any, value: Any) -> list[tuple[str, Any]]:
    """Dotted keys of a section and of those in it; a free-form mapping is one value."""
    if not isinstance(model, BaseModel):
        return [(prefix, value)]
    return [pair for name, part in model for pair in _flat(f"{prefix}.{name}", part, value[name])]


def _items_move(objective: str, config: Config) -> bool:
    towers = {"grpo": config.grpo.towers, "live_infonce": config.live_infonce.towers}.get(objective, "query")
    return towers != "query"


def _start(config: Config, parent: Release | None) -> str:
    """The content of what training starts from."""
    if parent is not None:
        return f"release {parent.manifest.digest}"
    folder = find_model(config.encoder.model).folder
    if (folder / MANIFEST).is_file():
        return f"release {read_manifest(folder).digest}"
    files = json.dumps(hash_files(folder), sort_keys=True)
    return f"model {hashlib.sha256(files.encode()).hexdigest()}"


def _may_grow(identity: Identity, held: Identity, key: str) -> bool:
    """Whether more steps leave those that were done as they are.

    A learning rate that decays, or whose warm-up is a share of the steps, is another one at every step. The last groups
    of a run that retrieves ahead are retrieved for its last step. Where items move, a finished run has let go of
    its index.
    """
    objective = identity["objective"]

    def warmup(steps: int) -> int:
        return math.ceil(identity[f"{objective}.optim.warmup"] * steps * identity.get("grpo.updates", 1))

    more = isinstance(held.get(key), int) and identity[key] > held[key]
    constant = identity[f"{objective}.optim.schedule"] == "constant"
    frozen = identity.get(f"{objective}.towers", "query") == "query" and not identity.get("grpo.staleness", 0)
    return more and constant and warmup(identity[key]) == warmup(held[key]) and frozen


def _said(key: str) -> str:
    """The key as people know it."""
    return {"start": "--release or encoder.model", "objective": "objective"}.get(key, key)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:57]}…"


def _why(key: str) -> str:
    if key.endswith(".steps"):
        return ", and the learning rate of each step follows from it"
    return ""
