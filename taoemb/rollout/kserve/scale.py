"""How many pods both arms get on KServe in Standard mode, where a canary has no autoscaling.

KServe (v0.20, predictor.go) takes the canary's minReplicas away from the stable's, down to one, and refuses a canary
whose minReplicas is the larger. So for the time of a rollout the stable's minReplicas is what people wrote *plus* the
canary's: the control keeps its floor. The canary follows the control's autoscaler: as many pods for each part of the
traffic as the control has for its own, and before a promotion as many as all the traffic needs.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taoemb.serving.inference_service import SCALE, SIDE, notes
from taoemb.serving.kube import Json, Kind

DEPLOYMENTS = Kind("apps", "v1", "deployments")
FIRST = 1
"""Pods of a candidate without shoppers."""
_LOWEST, _HIGHEST = "minReplicas", "maxReplicas"


@dataclass(frozen=True)
class Bounds:
    """Autoscaling bounds as people wrote them; None: not said."""

    lowest: int | None
    highest: int | None

    @property
    def floor(self) -> int:
        """Pods that the control has at least."""
        return 1 if self.lowest is None else self.lowest

    @property
    def most(self) -> int:
        """Pods that a predictor may have; without a highest number KServe gives it the lowest one."""
        return max(self.highest or 0, self.floor, 1)

    def note(self) -> str:
        """As an annotation of the canary, so that whoever ends the rollout finds it."""
        said = {_LOWEST: self.lowest, _HIGHEST: self.highest}
        return json.dumps({key: value for key, value in said.items() if value is not None})

    def beside(self, canary: int) -> Json:
        """The stable predictor's fields while a canary of so many pods stands beside it."""
        lowest = self.floor + canary
        return {_LOWEST: lowest} | ({} if not self.highest else {_HIGHEST: max(self.highest, lowest)})

    def restored(self) -> Json:
        """The stable predictor's fields once there is no canary; null removes what people had not written."""
        return {_LOWEST: self.lowest, _HIGHEST: self.highest}


def written(predictor: Mapping[str, Any]) -> Bounds:
    """The bounds of a predictor that has no canary."""
    return Bounds(predictor.get(_LOWEST), predictor.get(_HIGHEST))


def remembered(canary: Mapping[str, Any]) -> Bounds | None:
    """The stable's bounds before the rollout; None when an older version began it and left them alone."""
    said = notes(canary).get(SCALE)
    if said is None:
        return None
    tree = json.loads(said)
    return Bounds(tree.get(_LOWEST), tree.get(_HIGHEST))


def other_side(predictor: Mapping[str, Any]) -> str:
    """The side that the arm beside this one takes."""
    return "a" if (predictor.get("labels") or {}).get(SIDE) == "b" else "b"


def pods_for(percent: float, now: int, *, control: int, present: int, both: bool, bounds: Bounds) -> int:
    """Pods that the candidate needs for `percent` of the traffic; 100: for a promotion.

    `control` pods serve what the candidate's present share (`now`, in percent) leaves, or everything where `both` arms
    are searched (interleaving). `present` is what the candidate has: it grows at once, and shrinks when half is enough,
    so that it does not follow the autoscaler's every move.
    """
    left = 1.0 if both or now >= 100 else 1 - now / 100
    needed = math.ceil(round(control / left * percent / 100, 6))
    wanted = min(max(needed, FIRST), bounds.most)
    return wanted if wanted >= present or 2 * wanted <= present else present


def replicas(deployment: Mapping[str, Any]) -> int:
    """Pods that a Deployment is to have."""
    return int(deployment.get("spec", {}).get("replicas", 1))


def ready(deployment: Mapping[str, Any]) -> int:
    """Those of them that are ready."""
    return int((deployment.get("status") or {}).get("readyReplicas") or 0)
