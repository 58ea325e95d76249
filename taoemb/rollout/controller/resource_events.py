"""Kubernetes Events of a rollout's moves, for `kubectl describe` and whoever watches a namespace.

An Event's name follows from the move that it tells, so that saying it again, after a restart or a failed write, makes
no second one.
"""

import hashlib

from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS, KIND, Resource
from taoemb.rollout.controller.resource_status import rfc3339
from taoemb.rollout.state import Change
from taoemb.serving.kube import Conflict, Json, Kind, Objects

EVENTS = Kind("", "v1", "events")
COMPONENT = "taoemb-rollout-controller"
KEPT_S = 1800.0
"""Moves that are older are not told again: the API server forgets Events after an hour."""
_MOST_LETTERS = 1024  # of an Event's message
_LONGEST_NAME = 200


def announce(objects: Objects, resource: Resource, changes: tuple[Change, ...], now: float) -> None:
    """Make the Events of the recent moves that are not there yet. Raises TaoembError when the API does not answer."""
    for index, change in enumerate(changes):
        if now - change.at < KEPT_S:
            try:
                objects.create(EVENTS, resource.namespace, event(resource, change, index))
            except Conflict:
                continue


def event(resource: Resource, change: Change, index: int) -> Json:
    """One move as an Event."""
    identity = hashlib.sha256(f"{resource.uid} {index} {change.at} {change.phase}".encode()).hexdigest()[:16]
    at = rfc3339(change.at)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": resource.namespace, "name": f"{resource.name[:_LONGEST_NAME]}.{identity}"},
        "involvedObject": {
            "apiVersion": ENCODER_ROLLOUTS.api_version,
            "kind": KIND,
            "namespace": resource.namespace,
            "name": resource.name,
            "uid": resource.uid,
        },
        "type": "Warning" if change.phase in ("RollingBack", "RolledBack", "Failed", "Inconclusive") else "Normal",
        "reason": change.phase,
        "message": change.reason[:_MOST_LETTERS],
        "source": {"component": COMPONENT},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
