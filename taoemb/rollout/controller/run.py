"""The controller of EncoderRollouts: one elected process looks at each of them every few seconds.

It lists instead of watching: a rollout moves in minutes, and a list can't miss anything. Several are worked on at once,
each by one thread at a time; a failure of one is its own, and it is tried again later and later.
"""

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType

from taoemb.config import Config, ControllerConfig
from taoemb.errors import TaoembError
from taoemb.hosting.logs import configure_logs
from taoemb.rollout.controller.abort import Aborter
from taoemb.rollout.controller.health import Health, serve_health
from taoemb.rollout.controller.lease import Lease
from taoemb.rollout.controller.reconcile import Reconciled, Tools, reconcile
from taoemb.rollout.controller.resource import ENCODER_ROLLOUTS
from taoemb.serving.kube import Conflict, Json, Objects, connect, own_namespace

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rest:
    """A rollout that failed waits."""

    failures: int
    until: float


class Controller:
    """Works on all EncoderRollouts of a namespace, or of all, while `leading` says so."""

    def __init__(
        self,
        tools: Tools,
        config: ControllerConfig,
        *,
        namespace: str = "",
        leading: Callable[[], bool],
        health: Health,
    ) -> None:
        self._tools, self._config, self._namespace = tools, config, namespace
        self._leading, self._health = leading, health
        self._pool = ThreadPoolExecutor(config.workers, thread_name_prefix="rollout")
        self._running: dict[str, tuple[str, Future[Reconciled]]] = {}
        """By uid: the object's name, and its reconciliation under way."""
        self._resting: dict[str, Rest] = {}
        self._phases: dict[str, str] = {}
        """By uid: what was last told."""

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop`, then wait for what is under way."""
        try:
            while not stop.is_set():
                self.sweep()
                stop.wait(self._config.poll_s)
        finally:
            self._pool.shutdown(wait=True)
            self._collect()

    def sweep(self) -> None:
        """Look after everything once; returns without waiting for it."""
        self._collect()
        leading = self._leading()
        self._health.swept(leading)
        if not leading:
            return
        try:
            found = self._tools.objects.list(ENCODER_ROLLOUTS, self._namespace)
        except TaoembError as error:
            _log.warning("%s", error)
            return
        self._health.listed(found)
        for body in found:
            self._start(body)

    def settle(self, timeout_s: float) -> None:
        """Wait for what is under way."""
        for _, future in list(self._running.values()):
            future.exception(timeout_s)
        self._collect()

    def _start(self, body: Json) -> None:
        metadata = body["metadata"]
        uid = metadata["uid"]
        rest = self._resting.get(uid)
        if uid in self._running or (rest is not None and time.monotonic() < rest.until):
            return
        name = f"{metadata['namespace']}/{metadata['name']}"
        self._running[uid] = name, self._pool.submit(self._work, body)

    def _work(self, body: Json) -> Reconciled:
        if not self._leading():
            return Reconciled("not leading")
        self._tools.clock.refresh()
        return reconcile(body, self._tools, self._tools.clock.now())

    def _collect(self) -> None:
        """Take in what has ended; whatever a reconciliation failed with, it fails alone."""
        for uid, (name, future) in list(self._running.items()):
            if not future.done():
                continue
            del self._running[uid]
            error = future.exception()
            self._health.ticked(not future.result().failed if error is None else isinstance(error, Conflict))
            if error is None:
                self._resting.pop(uid, None)
                self._tell(uid, name, future.result().phase)
            elif isinstance(error, Conflict):
                _log.info("EncoderRollout %s: %s; read again", name, error)
            else:
                self._rest(uid, name, error)

    def _tell(self, uid: str, name: str, phase: str) -> None:
        if self._phases.get(uid) != phase:
            _log.info("EncoderRollout %s: %s", name, phase)
        self._phases[uid] = phase

    def _rest(self, uid: str, name: str, error: BaseException) -> None:
        failures = self._resting[uid].failures + 1 if uid in self._resting else 1
        wait_s = min(self._config.poll_s * 2**failures, self._config.backoff_s)
        self._resting[uid] = Rest(failures, time.monotonic() + wait_s)
        unforeseen = None if isinstance(error, TaoembError) else error
        _log.warning("EncoderRollout %s: %s; again in %.0f s", name, error, wait_s, exc_info=unforeseen)


def run_controller(
    config: Config,
    namespace: str = "",
    *,
    objects: Objects | None = None,
    tools: Tools | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run until SIGTERM or SIGINT (or `stop`): elect, work, give the lease back.

    `namespace`: only its EncoderRollouts; empty: all. `objects` and `tools` are made from the settings unless given.
    Raises InputError when there is no cluster.
    """
    objects = objects or connect()
    if tools is None:
        from taoemb.rollout.controller.tools import open_tools

        tools = open_tools(objects, config)
    if stop is None:
        configure_logs(config.logs.format, config.logs.level)
        stop = _at_signals()
    settings = config.controller
    identity = f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    lease = Lease(objects, settings.lease_namespace or own_namespace(), identity, settings)
    renewing = threading.Event()
    keeper = threading.Thread(target=lease.run, args=(renewing,), name="lease", daemon=True)
    health = Health(stale_after_s=max(60.0, 10 * settings.poll_s))
    aborter = Aborter(tools, settings.abort_s, namespace=namespace, leading=lease.leading)
    aborting = threading.Thread(target=aborter.run, args=(renewing,), name="abort", daemon=True)
    with serve_health(health, settings.host, settings.port):
        keeper.start()
        aborting.start()
        try:
            controller = Controller(tools, settings, namespace=namespace, leading=lease.leading, health=health)
            controller.run(stop)
        finally:
            renewing.set()
            aborting.join()
            keeper.join()
            _give_back(lease)


def _give_back(lease: Lease) -> None:
    try:
        lease.release()
    except TaoembError as error:
        _log.warning("the lease runs out by itself: %s", error)


def _at_signals() -> threading.Event:
    """Set when the process is told to end."""
    stop = threading.Event()

    def end(number: int, _: FrameType | None) -> None:
        _log.info("signal %d: ending after what is under way", number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return stop
