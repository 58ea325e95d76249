"""Elects one of several controllers by a Lease (coordination.k8s.io), as Kubernetes' own controllers do it.

Clocks are never compared between machines: a lease counts as expired when this process itself has watched it unchanged
for its duration. A leader that can't renew stops calling itself one before the others may take over.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from taoemb.config import ControllerConfig
from taoemb.errors import TaoembError
from taoemb.serving.kube import Conflict, Json, Kind, Missing, Objects

LEASES = Kind("coordination.k8s.io", "v1", "leases")
_RELEASED_S = 1
_log = logging.getLogger(__name__)


class Lease:
    """One candidate's view of the lease; :meth:`run` keeps trying, :meth:`leading` says whether it holds."""

    def __init__(
        self,
        objects: Objects,
        namespace: str,
        identity: str,
        config: ControllerConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` measures seconds on this machine alone."""
        self._objects, self._namespace, self._config, self._clock = objects, namespace, config, clock
        self.identity = identity
        self._seen: Json | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    def leading(self) -> bool:
        """Whether this process may act now."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._config.renew_s

    def run(self, stop: threading.Event) -> None:
        """Try to get and to keep the lease until `stop`."""
        told = ""
        while True:
            led = self.leading()
            try:
                self.attempt()
            except TaoembError as error:
                _log.warning("lease %s/%s: %s", self._namespace, self._config.lease, error)
            if self.leading() != led:
                _log.info("%s %s", self.identity, "leads" if self.leading() else "does not lead any more")
            holder = "" if self.leading() else self._holder()
            if holder and holder != told:
                _log.info("%s stands by; %s leads", self.identity, holder)
            told = holder
            if stop.wait(self._config.retry_s):
                return

    def attempt(self) -> bool:
        """Get or renew the lease once; says whether it is held. Raises TaoembError when the API does not answer."""
        asked_at = self._clock()
        try:
            held = self._objects.get(LEASES, self._namespace, self._config.lease)
        except Missing:
            body = {"metadata": {"name": self._config.lease}, "spec": self._claim({})}
            return self._write(lambda: self._objects.create(LEASES, self._namespace, body), asked_at)
        spec = held.get("spec") or {}
        if spec != self._seen:
            self._seen, self._seen_at = spec, asked_at
        if self._held_by_another(spec, asked_at):
            self._renewed_at = None
            return False
        body = {**held, "spec": self._claim(spec)}
        return self._write(lambda: self._objects.replace(LEASES, self._namespace, self._config.lease, body), asked_at)

    def release(self) -> None:
        """Give the lease to whoever asks next; nothing when it is not held."""
        if not self.leading():
            return
        self._renewed_at = None
        held = self._objects.get(LEASES, self._namespace, self._config.lease)
        if held["spec"].get("holderIdentity") != self.identity:
            return
        spec = {**held["spec"], "holderIdentity": "", "leaseDurationSeconds": _RELEASED_S, "renewTime": _micro_time()}
        self._objects.replace(LEASES, self._namespace, self._config.lease, {**held, "spec": spec})

    def _holder(self) -> str:
        """Who holds the lease, as it was last seen."""
        return str((self._seen or {}).get("holderIdentity") or "")

    def _held_by_another(self, spec: Json, now: float) -> bool:
        holder = spec.get("holderIdentity") or ""
        return holder not in ("", self.identity) and now - self._seen_at < spec.get("leaseDurationSeconds", 0)

    def _claim(self, spec: Json) -> Json:
        """The lease's next spec, held by this process."""
        mine = spec.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._config.lease_s),
            "acquireTime": spec["acquireTime"] if mine else _micro_time(),
            "renewTime": _micro_time(),
            "leaseTransitions": spec.get("leaseTransitions", 0) + (not mine and bool(spec)),
        }

    def _write(self, write: Callable[[], Json], asked_at: float) -> bool:
        try:
            self._seen = write()["spec"]
        except Conflict:
            self._renewed_at = None
            return False
        self._seen_at = self._renewed_at = asked_at
        return True


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
