"""The status of an EncoderRollout: what `kubectl get` shows, conditions that tools wait for, and the state."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from taoemb.errors import InputError
from taoemb.rollout.controller.resource import Resource
from taoemb.rollout.pausing import is_paused
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import ENDED, RolloutState, to_json
from taoemb.rollout.verdict import Verdict
from taoemb.serving.kube import Json

_OUTCOMES = {"Promoted": "promote", "RolledBack": "rollback", "Inconclusive": "inconclusive", "Failed": "failed"}
_MOST_WORDS = 4000
_COLUMN = 80


def status_of(
    resource: Resource, state: RolloutState, plan: Plan, now: float, *, verdict: Verdict | None = None, error: str = ""
) -> Json:
    """The whole status after a tick.

    `verdict` is the one of a look in this tick, else the last one stays; `error` says why the tick failed.
    """
    before = resource.status
    status: Json = {
        "observedGeneration": resource.generation,
        "phase": state.phase,
        "step": f"{state.step + 1}/{len(plan.steps)}",
        "percent": percent_of(state, plan),
        "rollout": state.name,
        "control": state.control,
        "message": (error or state.message or state.reason)[:_MOST_WORDS],
        "reason": _short(error or state.message or state.reason),
        "looks": state.looks,
        "state": to_json(state),
        "conditions": _conditions(resource, state, error, now),
    }
    if state.looked_at is not None:
        status["lastLook"] = rfc3339(state.looked_at)
    if verdict is not None:
        status["outcome"] = verdict.outcome
        status["units"] = verdict.units
        status["reasons"] = [
            {"check": one.check, "pointsTo": one.points_to, "text": one.text} for one in verdict.reasons
        ]
    elif "reasons" in before:
        status |= {key: before[key] for key in ("outcome", "reasons", "units") if key in before}
    if state.phase in _OUTCOMES:
        status["outcome"] = _OUTCOMES[state.phase]
    if "obeyed" in before:
        status["obeyed"] = before["obeyed"]
    return status


def unreadable(resource: Resource, why: str, now: float) -> Json:
    """The part of the status that changes when its state can't be read: the rest stays as another version wrote it."""
    before = {one["type"]: one for one in resource.status.get("conditions", ())}
    told = _condition(before.get("Degraded", {}), resource, now, "Degraded", "True", "StateUnreadable", why)
    return {"message": why[:_MOST_WORDS], "conditions": list((before | {"Degraded": told}).values())}


def percent_of(state: RolloutState, plan: Plan) -> int:
    """The candidate's share, as far as it is known to be in place."""
    if state.phase == "Promoted":
        return 100
    steps = [int(step.percent) for step in plan.steps]
    if state.phase in ("Stepping", "Promoting") or state.held:
        in_place = state.step if state.shifted or state.phase != "Stepping" else state.step - 1
        return steps[in_place] if in_place >= 0 else 0
    return 0


def rfc3339(seconds: float) -> str:
    """A time as Kubernetes writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _conditions(resource: Resource, state: RolloutState, error: str, now: float) -> list[Json]:
    ended = state.phase in ENDED
    promoted = "True" if state.phase == "Promoted" else "False" if ended else "Unknown"
    said = state.reason
    failing = state.failed_looks > 0 and not ended
    degraded = ("True", "TickFailed", error) if error else ("True", "LookFailed", state.message) if failing else None
    refused = _refused(resource)
    paused = is_paused(state)
    wanted = (
        ("Progressing", "False" if ended else "True", state.phase, said),
        ("Promoted", promoted, state.phase, said if ended else "the rollout has not ended"),
        ("Degraded", *(degraded or ("False", "AsExpected", ""))),
        ("Paused", *(("True", "AskedFor", resource.pause_reason) if paused else ("False", "NotAskedFor", ""))),
        ("InvalidSpec", *(("True", "PlanRefused", refused) if refused else ("False", "AsExpected", ""))),
    )
    before = {one["type"]: one for one in resource.status.get("conditions", ())}
    return [_condition(before.get(kind, {}), resource, now, kind, *rest) for kind, *rest in wanted]


def _refused(resource: Resource) -> str:
    """Why the library can't take a plan that the schema let through."""
    try:
        resource.plan()
    except InputError as error:
        return str(error)
    return ""


def _short(text: str) -> str:
    """What a column of `kubectl get` has room for."""
    line = " ".join(text.split())
    return line if len(line) <= _COLUMN else f"{line[: _COLUMN - 1]}…"


def _condition(
    before: Mapping[str, Any], resource: Resource, now: float, kind: str, status: str, reason: str, message: str
) -> Json:
    same = before.get("status") == status
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message[:_MOST_WORDS],
        "lastTransitionTime": before["lastTransitionTime"] if same else rfc3339(now),
        "observedGeneration": resource.generation,
    }
