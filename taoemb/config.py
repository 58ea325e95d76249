"""One typed tree of settings: defaults ← a YAML file ← `--set key=value`; and what is read from the environment.

Nothing else in the library reads the environment: what a launcher passes through it (rank, world size) is read by
:func:`distributed_env`. The tree itself stands in `taoemb.settings`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from taoemb.errors import InputError
from taoemb.settings.cluster import ControllerConfig, JobConfig, KServeConfig
from taoemb.settings.data import QueryGenerationConfig, SplitConfig
from taoemb.settings.models import EncoderConfig, JudgeConfig, JudgeServerConfig, JudgeTrainConfig, LoraConfig
from taoemb.settings.release import EvaluationConfig, GateConfig, MilvusConfig
from taoemb.settings.serving import EncoderServerConfig, EventsConfig, GatewayConfig, LogsConfig
from taoemb.settings.training import (
    EngineConfig,
    GRPOConfig,
    HardNegativesConfig,
    LiveInfoNCEConfig,
    OptimConfig,
    Precision,
    RewardConfig,
    SFTConfig,
)
from taoemb.settings.tree import Config
from taoemb.settings.yaml_text import read_yaml

__all__ = [
    "Config",
    "ControllerConfig",
    "DistributedEnv",
    "EncoderConfig",
    "EncoderServerConfig",
    "EngineConfig",
    "EvaluationConfig",
    "EventsConfig",
    "GRPOConfig",
    "GateConfig",
    "GatewayConfig",
    "HardNegativesConfig",
    "JobConfig",
    "JudgeConfig",
    "JudgeServerConfig",
    "JudgeTrainConfig",
    "KServeConfig",
    "LiveInfoNCEConfig",
    "LogsConfig",
    "LoraConfig",
    "MilvusConfig",
    "OptimConfig",
    "Precision",
    "QueryGenerationConfig",
    "RewardConfig",
    "SFTConfig",
    "SplitConfig",
    "distributed_env",
    "dump_config",
    "let_threads_sleep",
    "load_config",
    "pipeline_run",
    "prepare_deepspeed_environment",
    "prepare_pipeline_environment",
    "rank_environment",
    "share_metrics",
    "worker_environment",
]

PIPELINE_RUN = "TAOEMB_PIPELINE_RUN"
"""Environment variable that the pipelines set from the run's label."""


def load_config(file: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read settings from `file` (YAML), then apply `overrides` ("grpo.k=16"; values are YAML).

    Raises InputError with the file or override, the key and what is wrong.
    """
    tree: dict[str, Any] = {}
    if file is not None:
        tree = _read_yaml(file)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {override!r}: expected key=value, e.g. --set grpo.k=16")
        try:
            _assign(tree, key.strip().split("."), read_yaml(text))
        except yaml.YAMLError:
            raise InputError(f"--set {key}: {text!r} is not a YAML value") from None
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        source = str(file) if file is not None and not overrides else "settings"
        raise InputError(f"{source}: {where}: {_explain(first, where)}") from None


def _explain(error: Mapping[str, Any], where: str) -> str:
    if error["type"] == "extra_forbidden":
        return f"no such setting; see docs/configuration.md for the names near {where.split('.')[0]!r}"
    return f"{error['msg'].lower()} (got {error['input']!r})"


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = read_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {file}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--config {file}: not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(f"--config {file}: expected a mapping of settings, found a {type(tree).__name__}")
    return tree


def _assign(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for depth, part in enumerate(path[:-1]):
        inner = tree.setdefault(part, {})
        if inner is None:
            inner = tree[part] = {}
        if not isinstance(inner, dict):
            raise InputError(f"--set {'.'.join(path)}: {'.'.join(path[: depth + 1])} is not a section")
        tree = inner
    tree[path[-1]] = value


def dump_config(config: Config) -> str:
    """The whole tree as YAML; `load_config` reads it back to an equal tree."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class DistributedEnv:
    """Where this process stands among the ranks of a job."""

    rank: int
    world_size: int
    local_rank: int


def distributed_env() -> DistributedEnv:
    """What torchrun, the DeepSpeed launcher or a TrainJob (torch or OpenMPI) says in the environment; else one rank."""

    def read(*names: str, default: int) -> int:
        return next((int(os.environ[name]) for name in names if name in os.environ), default)

    return DistributedEnv(
        rank=read("RANK", "OMPI_COMM_WORLD_RANK", default=0),
        world_size=read("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", default=1),
        local_rank=read("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", default=0),
    )


def prepare_deepspeed_environment(rank: int, world_size: int) -> None:
    """Tell DeepSpeed what it reads from the environment only: its accelerator, and the ranks of a lone process."""
    os.environ.setdefault("LOCAL_RANK", str(rank))
    os.environ.setdefault("RANK", str(rank))
    os.environ.setdefault("WORLD_SIZE", str(world_size))
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def prepare_pipeline_environment(temporary: str) -> None:
    """For a local pipeline: where its steps put temporary files (kfp leaves a folder a step), and unbuffered output."""
    os.environ["TMPDIR"] = temporary
    os.environ["PYTHONUNBUFFERED"] = "1"


def pipeline_run() -> str:
    """Id of the pipeline run that this process is a step of, where the pipeline says it (on a cluster); else empty."""
    return os.environ.get(PIPELINE_RUN, "")


def let_threads_sleep() -> None:
    """Make waiting threads of this process and its children sleep instead of spinning (call before torch is imported).

    The loop runs a judge, a trainer and their threads on the same cores; a spinning thread takes a core
    away from the process that others wait for.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def share_metrics(folder: Path) -> None:
    """Let the processes that this one starts keep their Prometheus metrics in `folder`, to be shown as one."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The environment of one rank of a job on this machine, as torchrun sets it; ranks share the threads."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return worker_environment(ranks) | {name: str(value) for name, value in own.items()}


def worker_environment(workers: int) -> dict[str, str]:
    """The environment of one of `workers` processes that share this machine's threads."""
    let_threads_sleep()
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))} | dict(os.environ)
