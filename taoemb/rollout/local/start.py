"""Starts a rollout on this machine: checks everything first, then brings up the control's encoders and the gateway.

What can't work is refused before anything runs: a release that is not bound to a collection, a plan whose files are
missing, a judge that gave the reward.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel

from taoemb.config import Config, EventsConfig, dump_config, load_config
from taoemb.encoder.release import Release, load_release
from taoemb.errors import InputError, TaoembError
from taoemb.judge.failures import JudgeUnavailable, JudgeUnfit
from taoemb.retrieval.address import is_lite
from taoemb.rollout.backend import Candidate
from taoemb.rollout.drive import stored
from taoemb.rollout.local.backend import LocalBackend
from taoemb.rollout.measurement.grading import Grader, judge_settings
from taoemb.rollout.measurement.looking import needs_judge, read_history
from taoemb.rollout.measurement.slicing import Slicer
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import begin, to_json
from taoemb.secret_file import make_secret
from taoemb.serving.events.store import EventStore

Part = TypeVar("Part", bound=BaseModel)
START_S = 600.0
JUDGE_S = 5.0  # how long a start waits for the judge
_POLL_S = 0.2
_RECORD = "rollout.json"


@dataclass(frozen=True)
class LocalRollout:
    """The rollout of a folder, opened again."""

    name: str
    config: Config
    reward_judges: tuple[str, ...]
    backend: LocalBackend
    replicas: int = 1
    control: Path | None = None
    """Folder of the release that served when it began; None when an older version began it."""


def start_local(
    folder: Path,
    plan: Plan,
    control: Path,
    candidate: Path,
    config: Config,
    *,
    name: str | None = None,
    replicas: int = 1,
    gateway_port: int | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> LocalRollout:
    """Check, start the control and the gateway in `folder`, and put the rollout on record; `watch` moves it on.

    Where they run already, after an earlier rollout that ended, they stay as they are. Raises InputError for what can't
    work, TaoembError when the processes don't come up.
    """
    folder, plan = folder.absolute(), _absolute(plan)
    old, new = load_release(control.absolute()), load_release(candidate.absolute())
    if old.manifest.digest == new.manifest.digest:
        raise InputError(f"--candidate {candidate}: the same release as --control; there is nothing to compare")
    judges = reward_judges([old, new])
    _check_plan(plan, config, judges, warn)
    config = _settled_paths(config, folder)
    with EventStore(config.events) as store:
        _check_free(folder, store)
        backend = _backend(folder, config, replicas)
        running = backend.gateway_url() is not None
        if not running:
            _check_bound(config, [old, new])
        name = name or f"{new.manifest.digest[:8]}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        if store.rollouts.read(name) is not None:
            raise InputError(f"--name {name}: a rollout of that name is on record; choose another")
        _bring_up(backend, old, gateway_port, stop_after=not running)
        state = begin(name, Candidate(new.manifest.digest, str(new.path)), name, time.time(), old.manifest.digest)
        store.rollouts.create(name, plan.model_dump(mode="json"), to_json(state), time.time())
    record = {"rollout": name, "replicas": replicas, "reward_judges": judges, "control": str(old.path)}
    _replace(folder / _RECORD, json.dumps(record, indent=2) + "\n")
    return LocalRollout(name, config, tuple(judges), backend, replicas, old.path)


def open_local(folder: Path) -> LocalRollout:
    """The rollout that was started in `folder`. Raises InputError when there is none."""
    folder = folder.absolute()
    try:
        tree = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        name, replicas, judges = str(tree["rollout"]), int(tree["replicas"]), tuple(tree["reward_judges"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--dir {folder}: no rollout was started here ({error}); see `taoemb rollout start`") from None
    backend = LocalBackend(folder, load_config(folder / "config.yaml"), replicas)
    control = Path(tree["control"]) if "control" in tree else None
    return LocalRollout(name, backend.config, judges, backend, replicas, control)


def reward_judges(releases: Sequence[Release]) -> list[str]:
    """Digests of the judges whose grades any of the releases was trained on."""
    return sorted({judge for one in releases for judge in one.manifest.training.get("reward_judges", ())})


def _check_plan(plan: Plan, config: Config, judges: Sequence[str], warn: Callable[[str], None]) -> None:
    Slicer(plan)
    read_history(plan)
    for folder, file in ((plan.catalogue, "items.parquet"), (plan.human, "judgments.parquet")):
        if folder is not None and not (folder / file).is_file():
            raise InputError(f"plan: {folder}: holds no {file}")
    if not needs_judge(plan):
        return
    with Grader(judge_settings(config), plan, judges, patience_s=JUDGE_S) as grader:
        try:
            grader.check()
            grader.probe()
        except JudgeUnfit:
            raise
        except JudgeUnavailable as error:
            warn(f"{error}; pages wait until it is there")


def _check_free(folder: Path, store: EventStore) -> None:
    if not (folder / _RECORD).exists():
        return
    there = open_local(folder)
    if store.rollouts.read(there.name) is None:
        return
    _, _, state = stored(store.rollouts, there.name)
    if not state.ended or state.held:
        raise InputError(
            f"--dir {folder}: rollout {there.name} is {state.phase}; watch it to its end or roll it back first"
        )


def _check_bound(config: Config, releases: Sequence[Release]) -> None:
    from taoemb.retrieval.milvus import MilvusStore

    if is_lite(config.milvus) and not Path(config.milvus.uri).exists():
        raise InputError(f"--milvus {config.milvus.uri}: no such file; run `taoemb publish` first")
    with MilvusStore(config.milvus) as store:
        for release in releases:
            try:
                store.load_release(release.manifest.digest)
            except InputError as error:
                command = f"taoemb publish --no-activate --release {release.path} --milvus {config.milvus.uri} --data …"
                raise InputError(f"{error}: run `{command}`") from None


def _backend(folder: Path, config: Config, replicas: int) -> LocalBackend:
    """The folder's backend, its settings written; running processes keep theirs, so those may not change."""
    file = folder / "config.yaml"
    backend = LocalBackend(folder, config, replicas)
    if backend.gateway_url() is not None:
        before = load_config(file)
        for section in ("encoder", "encoder_server", "gateway", "milvus", "events"):
            if before.model_dump()[section] != config.model_dump()[section]:
                raise InputError(f"{section}: its processes run with other settings; `taoemb rollout stop` them first")
    folder.mkdir(parents=True, exist_ok=True)
    _replace(file, dump_config(config))
    return backend


def _bring_up(backend: LocalBackend, control: Release, gateway_port: int | None, stop_after: bool) -> None:
    backend.serve_control(control.manifest.digest, control.path, gateway_port)
    try:
        _wait_until_serving(backend, control.manifest.digest)
    except (TaoembError, KeyboardInterrupt):
        if stop_after:
            backend.stop()
        raise


def _wait_until_serving(backend: LocalBackend, control: str) -> None:
    deadline = time.monotonic() + START_S
    problem = ""
    while time.monotonic() < deadline:
        seen = backend.observe()
        problem = seen.message
        if seen.control == control:
            problem = _unready(f"{backend.gateway_url()}/readyz")
            if not problem:
                return
        elif seen.control is not None:
            raise TaoembError(f"the control's encoders answer with {seen.control[:16]}, not with {control[:16]}")
        backend.check_lives()
        time.sleep(_POLL_S)
    raise TaoembError(f"not serving after {START_S:.0f} s: {problem}; see {backend.folder}/logs")


def _unready(url: str) -> str:
    try:
        answer = httpx.get(url, timeout=5.0, trust_env=False)
    except httpx.HTTPError as error:
        return f"{url}: {str(error) or type(error).__name__}"
    return "" if answer.status_code == 200 else answer.text


def _settled_paths(config: Config, folder: Path) -> Config:
    """Paths made absolute, for processes that run elsewhere; events and the testers' token without a place of their own
    go into the folder."""
    default, events, milvus, gateway = EventsConfig(), config.events, config.milvus, config.gateway
    if events.spool == default.spool:
        events = events.model_copy(update={"spool": folder / "spool"})
    if (events.url, events.url_file) == (default.url, None):
        events = events.model_copy(update={"url": f"sqlite:///{folder / 'events.db'}"})
    if is_lite(milvus):
        milvus = milvus.model_copy(update={"uri": str(Path(milvus.uri).absolute())})
    if gateway.tester_token_file is None:
        gateway = gateway.model_copy(update={"tester_token_file": make_secret(folder / "tester-token")})
    return _absolute(config.model_copy(update={"events": events, "milvus": milvus, "gateway": gateway}))


def _absolute(part: Part) -> Part:
    """The same with absolute paths in it, and in its parts."""
    update: dict[str, object] = {}
    for name, value in part:
        if isinstance(value, Path):
            update[name] = value.absolute()
        elif isinstance(value, BaseModel):
            update[name] = _absolute(value)
    return part.model_copy(update=update)


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)
