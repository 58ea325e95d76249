"""Takes candidates back that a person, a deletion or the rollout itself wants back: at once, by workers of its own.

A look may take minutes, and a rollout that fails rests longer and longer; neither may stand between a person and the
control's traffic. So this lists by itself, every second, and does only what a stored request or phase calls for. What
it does may be done again: the rollout's own next tick finds it done and tells the end.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.controller.reconcile import Tools, obey, plan_of, state_of, write
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS, Resource, parse_resource
from taoemb.rollout.controller.resource_status import status_of
from taoemb.rollout.endings import asked, ending
from taoemb.rollout.plan import Plan
from taoemb.serving.kube import Conflict, Json

_TRIES = 5  # writes that meet the rollout's own
_WORKERS = 4
_log = logging.getLogger(__name__)


def wants_back(resource: Resource) -> bool:
    """Whether the candidate is to go by what the object says: asked for, being deleted, or rolling back already."""
    stored = resource.status.get("state") or {}
    if resource.deleting:
        return resource.finalized and stored.get("phase") != "Promoting"
    if stored.get("phase") == "RollingBack":
        return True
    over = stored.get("phase") in ("Promoted", "RolledBack", "Failed") or (
        stored.get("phase") == "Inconclusive" and not stored.get("held")
    )
    return _is_asked(resource) and not over


def take_back(resource: Resource, tools: Tools, now: float) -> None:
    """Store that it rolls back, when a person asks for it, and give all traffic to the control.

    Raises TaoembError when that did not work; Conflict when the rollout's own worker wrote meanwhile.
    """
    plan, _ = plan_of(resource)
    if not resource.deleting and _is_asked(resource):
        _store(resource, plan, tools, now)
    tools.backend(resource, plan).rollback()


def _store(resource: Resource, plan: Plan, tools: Tools, now: float) -> None:
    try:
        stored = state_of(resource, now)
    except InputError:  # of a version that this one can't read: what is asked for needs none of it
        stored = state_of(resource, now, anew=True)
    obeyed, state = obey(resource, stored, now)
    if state.request is not None:
        state = ending(state, "RolledBack", asked("rollback", state.request), now)
    write(resource, status_of(resource, state, plan, now) | obeyed, tools)


def _is_asked(resource: Resource) -> bool:
    wish = resource.request
    if wish is None or wish.action != "rollback":
        return False
    return {"action": wish.action, "reason": wish.reason} != resource.status.get("obeyed")


class Aborter:
    """Looks for candidates that are wanted back, while `leading` says so."""

    def __init__(self, tools: Tools, poll_s: float, *, namespace: str = "", leading: Callable[[], bool]) -> None:
        self._tools, self._poll_s, self._namespace, self._leading = tools, poll_s, namespace, leading
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="abort")
        self._running: dict[str, Future[None]] = {}
        self._told: dict[str, str] = {}
        """By uid: the last failure."""

    def run(self, stop: threading.Event) -> None:
        """Sweep every `poll_s` until `stop`."""
        while not stop.wait(self._poll_s):
            self.sweep()
        self._pool.shutdown(wait=True)

    def sweep(self) -> None:
        """Look once; returns without waiting for what that starts."""
        if not self._leading():
            return
        try:
            found = [parse_resource(body) for body in self._tools.objects.list(ENCODER_ROLLOUTS, self._namespace)]
        except TaoembError as error:
            _log.debug("%s", error)  # the controller's own sweep tells it
            return
        for uid in [uid for uid, running in self._running.items() if running.done()]:
            del self._running[uid]
        for resource in found:
            if resource.uid not in self._running and wants_back(resource):
                self._running[resource.uid] = self._pool.submit(self._take_back, resource)

    def settle(self, timeout_s: float) -> None:
        """Wait for what is under way."""
        for running in list(self._running.values()):
            running.exception(timeout_s)

    def _take_back(self, resource: Resource) -> None:
        name = f"{resource.namespace}/{resource.name}"
        try:
            for _ in range(_TRIES):
                try:
                    take_back(resource, self._tools, self._tools.clock.now())
                    break
                except Conflict:
                    body: Json = self._tools.objects.get(ENCODER_ROLLOUTS, resource.namespace, resource.name)
                    resource = parse_resource(body)
            self._told.pop(resource.uid, None)
        except TaoembError as error:
            if self._told.get(resource.uid) != str(error):
                _log.warning("EncoderRollout %s: its candidate could not be taken back yet: %s", name, error)
            self._told[resource.uid] = str(error)
        except BaseException:
            _log.exception("EncoderRollout %s: its candidate could not be taken back", name)
            raise
