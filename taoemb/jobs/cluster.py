"""A job (`taoemb.jobs.work.Job`) on a Kubernetes cluster: a TrainJob, or an indexed Job.

Everything is read from the cluster at each look, so the same command picks a running job up again, from any machine.
Both kinds of object tell their end by the conditions Complete and Failed.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taoemb.config import JobConfig
from taoemb.errors import InputError, TaoembError
from taoemb.jobs import pods as of_pods
from taoemb.jobs.manifest import WORK_ANNOTATION, Manifest
from taoemb.jobs.podlog import PodLog
from taoemb.jobs.work import Ended
from taoemb.serving.kube import PODS, Conflict, Json, Missing, Objects

CONTAINER = "node"
AWAY_S = 300.0  # how long the API server may be away before we stop waiting for the job


@dataclass(frozen=True)
class Look:
    """A job at one moment."""

    state: str
    """"running", "done", "failed" or "gone"."""
    pods: list[Json]
    note: str
    """What holds it, or how far it is."""


class ClusterJob:
    """One object and its pods; `manifest` says which. `result` is a file that the work leaves when it is done."""

    def __init__(self, objects: Objects, manifest: Manifest, config: JobConfig, result: Path | None = None) -> None:
        self._objects, self._manifest, self._config, self._result = objects, manifest, config, result
        self._stuck_since: float | None = None
        self._given_up: Ended | None = None

    def submit(self) -> None:
        """Make the object. One that runs, or is done, with the same work is picked up; an ended other one is replaced.

        Raises InputError when one of that name runs with other settings, or the cluster does not take it.
        """
        self._given_up, self._stuck_since = None, None
        try:
            self._create()
        except Conflict:
            found = self._get()
            if found is not None and self._keep(found):
                return
            self.cancel()
            self._create()

    def logs(self) -> Iterator[str]:
        """Lines of the first rank, and notes about what holds the job; until it has ended."""
        told = ""
        log: PodLog | None = None
        while True:
            look = self._look()
            if look.note and look.note != told:
                told = look.note
                yield f"{self._manifest.title}: {look.note}"
            main = self._main(look.pods)
            if main is not None and of_pods.phase(main) != "Pending":
                if log is None or log.pod != of_pods.name(main):
                    log = PodLog(self._objects, self._manifest.namespace, of_pods.name(main), CONTAINER)
                yield from _lines(log)
            if self._ended(look):
                return
            time.sleep(self._config.poll_s)

    def wait(self) -> Ended:
        """Until it has ended; one that can't start is removed."""
        while not self._ended(look := self._look()):
            time.sleep(self._config.poll_s)
        if self._given_up is not None:
            self.cancel()
            return self._given_up
        if look.state == "done":
            return Ended("done")
        if look.state == "gone":
            return Ended("failed", f"was deleted on the cluster ({self._place})")
        telling = self._main(look.pods) or of_pods.first_failed(look.pods)
        if telling is None:
            return of_pods.failure(look.pods, [])
        log = PodLog(self._objects, self._manifest.namespace, of_pods.name(telling), CONTAINER)
        return of_pods.failure([telling, *look.pods], log.tail())

    def cancel(self) -> None:
        """Delete the object and wait until its pods are gone; they write their checkpoint first."""
        manifest = self._manifest
        try:
            self._objects.delete(manifest.kind, manifest.namespace, manifest.name, whole=True)
        except Missing:
            return
        deadline = time.monotonic() + self._config.grace_s + AWAY_S
        while self._is_there():
            if time.monotonic() > deadline:
                raise TaoembError(f"{self._place} is deleted but does not go away; look at its pods")
            time.sleep(self._config.poll_s)

    @property
    def _place(self) -> str:
        manifest = self._manifest
        return f"{manifest.body['kind']} {manifest.namespace}/{manifest.name}"

    def _create(self) -> None:
        manifest = self._manifest
        try:
            self._objects.create(manifest.kind, manifest.namespace, manifest.body)
        except Missing as error:
            raise InputError(f"{error}; is Kubeflow Trainer installed, and the namespace there?") from None

    def _keep(self, found: Json) -> bool:
        """Whether the object that is there is this work, running or done. Raises InputError for running other work."""
        same = _annotation(found) == _annotation(self._manifest.body)
        ended = _condition(found)
        leaving = "deletionTimestamp" in found["metadata"]
        if not same and not ended and not leaving:
            raise InputError(
                f"{self._place} runs already with other settings; wait for it or delete it, or choose another folder"
            )
        return same and ended != "failed" and not leaving and not (ended and self._result_is_gone())

    def _result_is_gone(self) -> bool:
        """Whether the run folder was removed since, as far as it can be seen from here."""
        result = self._result
        return result is not None and result.parent.parent.is_dir() and not result.is_file()

    def _is_there(self) -> bool:
        """Whether the object still is; also when nobody answers."""
        try:
            return self._get() is not None
        except TaoembError:
            return True

    def _get(self) -> Json | None:
        manifest = self._manifest
        try:
            return self._objects.get(manifest.kind, manifest.namespace, manifest.name)
        except Missing:
            return None

    def _look(self) -> Look:
        """The job as it is now; an API server that is away is waited for."""
        begun = time.monotonic()
        while True:
            try:
                found = self._get()
                pods = self._objects.list(PODS, self._manifest.namespace, self._manifest.pods)
                break
            except TaoembError as error:
                if time.monotonic() - begun > AWAY_S:
                    raise TaoembError(f"{error}; the job may go on: the same command follows it again") from None
                time.sleep(self._config.poll_s)
        if found is None:
            return Look("gone", pods, "")
        return Look(_condition(found) or "running", pods, self._note(found, pods))

    def _note(self, found: Json, pods: list[Json]) -> str:
        status = found.get("status", {})
        for condition in status.get("conditions", ()):
            if condition["type"] == "Suspended" and condition["status"] == "True":
                return f"waits in the queue: {condition.get('message') or condition['reason']}"
        stuck = of_pods.stuck(pods)
        if stuck is not None:
            return stuck.reason
        if self._manifest.main is None and not _condition(found):
            return f"{status.get('succeeded', 0)} of {found['spec']['completions']} done"
        return of_pods.unscheduled(pods)

    def _ended(self, look: Look) -> bool:
        """Whether nothing more will come; a pod that can't start is given up after `start_timeout_s`."""
        if look.state != "running" or self._given_up is not None:
            return True
        stuck = of_pods.stuck(look.pods)
        if stuck is None:
            self._stuck_since = None
            return False
        self._stuck_since = self._stuck_since or time.monotonic()
        if time.monotonic() - self._stuck_since < self._config.start_timeout_s:
            return False
        self._given_up = stuck
        return True

    def _main(self, pods: list[Json]) -> Json | None:
        labels = self._manifest.main
        return None if labels is None else of_pods.newest(pods, labels.items())


def _lines(log: PodLog) -> Iterator[str]:
    try:
        yield from log.new_lines()
    except TaoembError:  # the container is not up yet, or the pod has just gone
        return


def _condition(found: Json) -> str:
    """ "done", "failed", or empty."""
    names = {"Complete": "done", "Failed": "failed"}
    for condition in found.get("status", {}).get("conditions", ()):
        if condition["type"] in names and condition["status"] == "True":
            return names[condition["type"]]
    return ""


def _annotation(body: Json) -> str:
    return str(body["metadata"].get("annotations", {}).get(WORK_ANNOTATION, ""))
