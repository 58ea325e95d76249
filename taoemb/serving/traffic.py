"""The arms of an A/B test and the split between them: what a rollout writes and the gateway obeys.

One value, replaced whole, so that no reader ever sees the candidate of one rollout with the split of another.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from taoemb.errors import InputError

ArmName = Literal["control", "candidate"]
Design = Literal["ab", "interleaving"]
RELEASE_HEADER = "x-taoemb-release"
"""Header of every reply of an encoder: the digest of the release that it serves."""


@dataclass(frozen=True)
class Arm:
    """A release and the encoders that serve it."""

    release: str
    """Digest that every reply of these encoders must carry."""
    urls: tuple[str, ...]
    """Base URLs of replicas, e.g. http://127.0.0.1:8090."""


@dataclass(frozen=True)
class Traffic:
    """Who answers which share of the units."""

    control: Arm
    candidate: Arm | None = None
    percent: float = 0.0
    """Share of the units that the candidate answers, 0 to 100; with interleaving, of the units that see mixed pages."""
    design: Design = "ab"
    rollout: str = ""
    """Name of the rollout; empty when none runs."""
    salt: str = ""
    """Salt of the assignment; another one shuffles all units."""

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise ValueError(f"percent {self.percent}: give 0 to 100")

    def arm(self, name: ArmName) -> Arm | None:
        """The arm of that name; None when there is no candidate."""
        return self.control if name == "control" else self.candidate


def write_traffic(path: Path, traffic: Traffic) -> None:
    """Replace the file in one step; whoever reads sees the old value or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(dataclasses.asdict(traffic), indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_traffic(path: Path) -> Traffic:
    """Read the file. Raises InputError when it is missing or malformed."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; `taoemb rollout start` writes it") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); start the rollout again") from None
    try:
        return parse_traffic(tree)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a traffic file ({error}); start the rollout again") from None


def parse_traffic(tree: dict[str, Any]) -> Traffic:
    """The value from its JSON form; raises TypeError, KeyError or ValueError when it is malformed."""
    arms = {
        name: Arm(tree[name]["release"], tuple(tree[name]["urls"]))
        for name in ("control", "candidate")
        if tree.get(name) is not None
    }
    rest = {name: value for name, value in tree.items() if name not in ("control", "candidate")}
    return Traffic(control=arms["control"], candidate=arms.get("candidate"), **rest)
