"""What the steps of a pipeline share: settings as one text, a folder that outlives an interruption, a judge to call.

A component's function travels as source into the image and imports the library there; what several components need
stands here, so that each stays a few lines. Importing this is cheap.
"""

import hashlib
import json
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from taoemb.config import Config, load_config, pipeline_run
from taoemb.errors import InputError

STAGES = {
    "prepare": ("split", "queries"),
    "judge": ("judge", "judge_train"),
    "heldout_judge": ("heldout_judge", "judge_train"),
    "sft": ("encoder", "sft", "engine", "job"),
    "grpo": ("encoder", "judge", "judge_server", "heldout_judge", "rewards", "grpo", "engine", "job"),
    "evaluate": ("encoder", "judge", "judge_server", "heldout_judge", "evaluation", "gate"),
    "gate": ("gate",),
    "publish": ("encoder", "milvus"),
    "rollout": ("encoder", "judge", "heldout_judge", "milvus", "encoder_server", "gateway", "events"),
}
"""The sections of the settings that each step reads: a step runs again only when its own part changes."""

CHUNK = 1 << 20
SERVED_BATCH = 64  # pairs a request, to a judge that answers whole batches


def settings_from(text: str, overrides: Sequence[str] = ()) -> Config:
    """The settings in a YAML text, with `overrides` ("grpo.k=16"); InputError speaks of "settings"."""
    with settings_file(text) as path:
        try:
            return load_config(path, overrides)
        except InputError as error:
            raise InputError(
                str(error).replace(f"--config {path}", "settings").replace(str(path), "settings")
            ) from None


def settings_text(config: Config, sections: Sequence[str] = ()) -> str:
    """YAML of what was set explicitly (in these sections, or all): `settings_from` gives the same settings back."""
    chosen = config.model_dump(mode="json", exclude_unset=True, include=set(sections) if sections else None)
    return yaml.safe_dump(chosen, sort_keys=True, allow_unicode=True) if chosen else ""


@contextmanager
def settings_file(text: str) -> Iterator[Path]:
    """The text as a file for `--config`, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="taoemb-") as folder:
        path = Path(folder) / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        yield path


def stage_settings(config: Config) -> dict[str, str]:
    """For each step its own part of the settings, as text."""
    return {stage: settings_text(config, sections) for stage, sections in STAGES.items()}


def run_overrides(parameters: Mapping[str, Any]) -> list[str]:
    """Run parameters ("sft.steps" → 40) as overrides; what was left empty ("", 0 or a negative seed) is not one."""
    given = {key: value for key, value in parameters.items() if value not in ("", 0) or key.endswith("seed")}
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value != -1]


def fingerprint(folder: Path) -> str:
    """Digest of a dataset folder's contents: a step that reads the folder runs again when a byte changed."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.parquet")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def run_folder(workspace: str, step: str, *inputs: str) -> Iterator[Path]:
    """A folder to train in.

    With a workspace it is the same one when the step starts again on the same `inputs`, so that training goes on from
    its last checkpoint; it is removed when the block ends well. Without, it is a temporary one.
    """
    if not workspace:
        with tempfile.TemporaryDirectory(prefix=f"taoemb-{step}-") as temporary:
            yield Path(temporary)
        return
    identity = hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]
    folder = Path(workspace) / f"{step}-{identity}"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def served(section: Literal["judge", "heldout_judge"], config: Config, model: Path) -> Iterator[list[str]]:
    """Settings that say where a judge answers: none when they name an endpoint, else `model` served for the block."""
    named = config.judge if section == "judge" else config.heldout_judge
    if named is not None and named.url:
        yield []
        return
    from taoemb.judge.local import running_judge

    with running_judge(model, threads=config.judge_server.threads) as url:
        yield [f"{section}.url={url}", f"{section}.batch_size={SERVED_BATCH}"]


def check_job(config: Config, workspace: str, *, judged: bool) -> None:
    """InputError when training as a job of its own could not see what its step sees; `judged`: a judge gives reward."""
    if config.job.backend == "local":
        return
    if not workspace:
        raise InputError("workspace: job.backend is trainjob; name a folder on a volume that step and job both mount")
    if judged and not config.judge.url and not config.job.settings:
        raise InputError("judge_url: job.backend is trainjob; a judge served in the step can't be reached from the job")


def train(
    objective: str,
    settings: str,
    inputs: Mapping[str, Path],
    *,
    release: Path,
    log: Path,
    ranks: int = 0,
    workspace: str = "",
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a training entry point; `inputs` are its folders ("data", "release"). Returns the run's summary.

    The release goes to `release`; metrics and TensorBoard events to `log`. A run that was stopped goes on when
    `workspace` is the same. 0 ranks: job.ranks of the settings. On a cluster the inputs are copied into the workspace,
    which the job sees, unlike the step's own artefacts.
    """
    from taoemb.jobs.training import SUMMARY, run_training, training_work

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped pod lets training write its checkpoint
    config = settings_from(settings, [*overrides, *([f"job.ranks={ranks}"] if ranks else [])])
    check_job(config, workspace, judged=objective == "grpo")
    with run_folder(workspace, objective, *_identity(settings, inputs)) as folder:
        if config.job.backend != "local":
            inputs = {name: _staged(path, folder / "inputs" / name) for name, path in inputs.items()}
        work = training_work(objective, inputs["data"], folder.absolute(), inputs.get("release"), config)
        run_training(work, config, run=pipeline_run())
        shutil.copytree(folder / "release", release, dirs_exist_ok=True)
        left = shutil.ignore_patterns("release", "checkpoints", "inputs")
        shutil.copytree(folder, log, ignore=left, dirs_exist_ok=True)
        return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))


def _identity(settings: str, inputs: Mapping[str, Path]) -> list[str]:
    """What makes a training another one: its settings and inputs, and not where it runs."""
    asked = settings_from(settings)
    sections = sorted(asked.model_fields_set - {"job"})
    given = [f"{name}={_content(path)}" for name, path in sorted(inputs.items())]
    return [settings_text(asked, sections) if sections else "", *given]


def _content(folder: Path) -> str:
    """What is in a dataset or a release."""
    manifest = folder / "release.json"
    return json.loads(manifest.read_text(encoding="utf-8"))["digest"] if manifest.is_file() else fingerprint(folder)


def _staged(source: Path, target: Path) -> Path:
    """A copy of a folder, whole or not there."""
    if not target.is_dir():
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.replace(target)
    return target.absolute()
