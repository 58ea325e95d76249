"""A rollout as one step of a pipeline: started, or found again after a restart, and followed to its verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from taoemb.config import Config
from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.plan import Plan, parse_plan
from taoemb.settings.yaml_text import read_yaml

KSERVE = "kserve://"


@dataclass(frozen=True)
class Ended:
    """How a rollout ended."""

    rollout: str
    phase: str
    reason: str


def check_request(plan: str, target: str) -> Plan:
    """The plan in a YAML text. Raises InputError for a bad plan, or a `target` that can't be one."""
    try:
        tree = read_yaml(plan)
    except yaml.YAMLError as error:
        raise InputError(f"rollout: not YAML: {' '.join(str(error).split())}") from None
    if not target:
        raise InputError(f"rollout_target is needed: {KSERVE}NAMESPACE/INFERENCESERVICE, or a folder on this machine")
    if target.startswith(KSERVE):
        from taoemb.rollout.kserve.cluster import parse_place

        parse_place(target, "rollout_target")
    return parse_plan({} if tree is None else tree, "rollout")


def roll_out(
    plan: str,
    target: str,
    release: Path,
    config: Config,
    *,
    storage_uri: str = "",
    control: str = "",
    say: Callable[[str], None],
) -> Ended:
    """Roll `release` (a folder) out at `target` and wait for the verdict.

    On KServe encoders load it from `storage_uri`, and what the InferenceService serves is the control. On this machine
    `control` is the folder of the release that serves now. Started again with the same release, it goes on with the
    rollout that is there. Raises InputError for what can't work.
    """
    parsed = check_request(plan, target)
    if target.startswith(KSERVE):
        return _on_cluster(parsed, target, release, storage_uri, say)
    return _on_this_machine(parsed, Path(target), release, control, config, say)


def _on_cluster(plan: Plan, target: str, release: Path, storage_uri: str, say: Callable[[str], None]) -> Ended:
    from taoemb.encoder.release import load_release
    from taoemb.rollout.kserve.cluster import follow, parse_place, start_rollout
    from taoemb.serving.kube import connect

    if "://" not in storage_uri:
        raise InputError(f"rollout_storage {storage_uri!r}: give the storageUri that KServe loads the release from")
    digest = load_release(release).manifest.digest
    objects = connect()
    service = parse_place(target, "rollout_target")
    place = start_rollout(objects, service, Candidate(digest, storage_uri), plan)
    say(f"EncoderRollout {place}")
    status = follow(objects, place, say=say, warn=say)
    return Ended(str(place), status["phase"], status["message"])


def _on_this_machine(
    plan: Plan, folder: Path, release: Path, control: str, config: Config, say: Callable[[str], None]
) -> Ended:
    from taoemb.encoder.release import load_release
    from taoemb.rollout.local.start import open_local, start_local
    from taoemb.rollout.local.watch import watch_local

    if not control:
        raise InputError("baseline is needed: the folder of the release that serves now")
    name = load_release(release).manifest.digest[:16]
    there = open_local(folder) if (folder / "rollout.json").exists() else None
    if there is None or there.name != name:
        there = start_local(folder, plan, Path(control), release, config, name=name, warn=say)
    say(f"rollout {name}; send searches to {there.backend.gateway_url()}")
    state = watch_local(there, say=say, warn=say)
    return Ended(name, state.phase, state.reason)
