"""The rollout commands on a cluster: they make, read and ask an EncoderRollout; its controller does the work."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from taoemb.cli.rollout_shown import Shown, keep_quiet, say, warn

if TYPE_CHECKING:
    from taoemb.rollout.kserve.cluster import Place
    from taoemb.rollout.plan import Plan
    from taoemb.rollout.state import Action


def start(service: str, candidate: Path, storage_uri: str, plan: "Plan", name: str | None) -> str:
    """Make the EncoderRollout of a release; NAMESPACE/NAME of it."""
    from taoemb.encoder.release import load_release
    from taoemb.rollout.backend import Candidate
    from taoemb.rollout.kserve.cluster import parse_place, start_rollout
    from taoemb.serving.kube import connect

    place = parse_place(service, "--inference-service")
    release = load_release(candidate).manifest.digest
    return str(start_rollout(connect(), place, Candidate(release, storage_uri), plan, name or ""))


def status(rollout: str) -> Shown:
    """Where it stands."""
    from taoemb.rollout.kserve.cluster import read_status
    from taoemb.serving.kube import connect

    place = _place(rollout)
    return _shown(place, read_status(connect(), place))


def watch(rollout: str, quiet: bool) -> Shown:
    """Follow it to its end."""
    from taoemb.rollout.kserve.cluster import follow
    from taoemb.serving.kube import connect

    place = _place(rollout)
    return _shown(place, follow(connect(), place, say=keep_quiet if quiet else say, warn=warn))


def decide(rollout: str, action: "Action", why: str, quiet: bool) -> Shown:
    """Put a person's request into it, and follow."""
    from taoemb.rollout.kserve.cluster import ask
    from taoemb.serving.kube import connect

    place = _place(rollout)
    ask(connect(), place, action, why)
    return watch(rollout, quiet)


def pause(rollout: str, why: str) -> Shown:
    """Hold it where it is."""
    return _paused(rollout, True, why)


def resume(rollout: str, why: str) -> Shown:
    """Let it go on."""
    return _paused(rollout, False, why)


def retry(rollout: str) -> str:
    """Make an EncoderRollout like one that ended in vain; NAMESPACE/NAME of it."""
    from taoemb.rollout.kserve.again import retry as again
    from taoemb.serving.kube import connect

    return str(again(connect(), _place(rollout)))


def undo(rollout: str, why: str, quiet: bool) -> Shown:
    """Bring back what served before, and follow."""
    from taoemb.rollout.kserve.again import undo as back
    from taoemb.serving.kube import connect

    place = back(connect(), _place(rollout), why)
    return watch(str(place), quiet)


def rollouts(namespace: str) -> list[dict[str, Any]]:
    """All EncoderRollouts of a namespace, or of all, by name."""
    from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS
    from taoemb.serving.kube import connect

    rows = []
    for body in connect().list(ENCODER_ROLLOUTS, namespace):
        status = body.get("status") or {}
        rows.append(
            {
                "rollout": f"{body['metadata']['namespace']}/{body['metadata']['name']}",
                "phase": status.get("phase", "Pending"),
                "step": status.get("step", ""),
                "share": f"{status.get('percent', 0)} %",
                "units": status.get("units", 0),
                "outcome": status.get("outcome", ""),
                "reason": status.get("message", "nothing looked at it yet"),
            }
        )
    return sorted(rows, key=lambda row: str(row["rollout"]))


def _paused(rollout: str, paused: bool, why: str) -> Shown:
    from taoemb.rollout.kserve.cluster import read_status, set_paused
    from taoemb.serving.kube import connect

    place, objects = _place(rollout), connect()
    set_paused(objects, place, paused, why)
    return _shown(place, read_status(objects, place) | {"paused": paused})


def recorded_name(rollout: str) -> str:
    """Its name in the events database. Raises InputError before the controller's first look."""
    from taoemb.errors import InputError

    found = status(rollout).result.get("rollout")
    if not found:
        raise InputError(f"EncoderRollout {rollout}: nothing looked at it yet; is `taoemb rollout controller` running?")
    return str(found)


def _place(rollout: str) -> "Place":
    from taoemb.rollout.kserve.cluster import parse_place

    return parse_place(rollout, "--rollout")


def _shown(place: "Place", found: dict[str, Any]) -> Shown:
    phase = str(found.get("phase", "Pending"))
    rows = [(key, found[key]) for key in ("phase", "step", "percent", "message", "looks") if key in found]
    rows += [(reason["check"], reason["text"]) for reason in found.get("reasons", ())]
    return Shown(str(place), phase, found, rows or [("phase", "nothing looked at it yet")])
