"""Kubeflow Trainer, the Job controller and the kubelet of one small machine, behind the fake API server.

An object becomes pods. Without a script for its attempt, a pod really runs the object's command here, with the
environment that Trainer's torch plugin sets; with one, it ends as the script says.
"""

import copy
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taoemb.jobs.local import free_port
from tests.rollout.fake_api import FakeApi, Refusal

Body = dict[str, Any]
FINALIZER = "foregroundDeletion"
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
SECRET = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "judge-key" not found'}}


@dataclass(frozen=True)
class Attempt:
    """How one attempt goes: the state of its container, more of its pod's status, its log, and the object's end."""

    state: Mapping[str, Any] = field(default_factory=lambda: {"running": {}})
    pod: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()
    ends: str = "Failed"
    """"Complete", "Failed", or empty: it goes on."""


def exited(code: int, *lines: str, reason: str = "Error", **pod: Any) -> Attempt:
    """A container that ended with `code`."""
    ends = "Failed" if code else "Complete"
    return Attempt({"terminated": {"exitCode": code, "reason": reason}}, pod, lines, ends)


EVICTED = exited(137, "step 3", conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "Preempted"}])


class FakeCluster:
    """Hooks itself into a FakeApi; `scripts` are used up one an attempt."""

    def __init__(self, api: FakeApi, *scripts: Attempt) -> None:
        self.api, self.scripts, self.attempts = api, list(scripts), 0
        self.ranks = 1
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        api.after_write.append(self._written)

    def close(self) -> None:
        """End what still runs."""
        for process in self._processes.values():
            process.kill()
        for thread in self._threads:
            thread.join()

    def _written(self, body: Body) -> None:
        if body["kind"] not in ("TrainJob", "Job"):
            return
        metadata = body["metadata"]
        plural = _plural(body)
        if "deletionTimestamp" in metadata:
            self._stop(plural, metadata["namespace"], metadata["name"])
        elif "status" not in body and FINALIZER not in metadata.get("finalizers", ()):
            self.api.objects[plural, metadata["namespace"], metadata["name"]]["metadata"]["finalizers"] = [FINALIZER]
            self.attempts += 1
            self._start(body)

    def _start(self, body: Body) -> None:
        pod = self._pod(body)
        if not self.scripts:
            self._run(body, pod)
            return
        attempt = self.scripts.pop(0)
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        if attempt.lines or "waiting" not in attempt.state:
            self.api.logs[key] = [f"{_now()} {line}" for line in attempt.lines]
        phase = {"Complete": "Succeeded", "Failed": "Failed"}.get(attempt.ends, "Running")
        phase = "Pending" if "waiting" in attempt.state else phase
        containers = [{"name": "node", "state": copy.deepcopy(dict(attempt.state))}]
        pod["status"] = {"phase": phase, "containerStatuses": containers, **attempt.pod}
        self.api.put("pods", pod)
        if attempt.ends:
            self.end(body, attempt.ends)

    def _run(self, body: Body, pod: Body) -> None:
        """Run the object's own command."""
        trainer = body["spec"]["trainer"]
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_NODE_RANK": "0",
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(free_port()),
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [*trainer["command"], *trainer["args"]],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )
        pod["status"] = {"phase": "Running", "containerStatuses": [{"name": "node", "state": {"running": {}}}]}
        self.api.put("pods", pod)
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.api.logs[key] = []
        self._processes[body["metadata"]["name"]] = process
        thread = threading.Thread(target=self._follow, args=(body, process, key))
        self._threads.append(thread)
        thread.start()

    def _follow(self, body: Body, process: subprocess.Popen[str], key: tuple[str, str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.api.logs[key].append(f"{_now()} {line.rstrip()}")
        code = process.wait()
        with self.api._lock:
            pod = self.api.objects.get(("pods", *key))
            if pod is not None:
                state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
                containers = [{"name": "node", "state": state}]
                pod["status"] = {"phase": "Failed" if code else "Succeeded", "containerStatuses": containers}
                self.end(body, "Failed" if code else "Complete")

    def end(self, body: Body, *conditions: str) -> None:
        """Give the object's status these conditions, which are true."""
        metadata = body["metadata"]
        found = self.api.objects.get((_plural(body), metadata["namespace"], metadata["name"]))
        if found is not None:
            rest = {"status": "True", "reason": "Test", "message": "told so", "lastTransitionTime": _now()}
            found["status"] = {"conditions": [{"type": name, **rest} for name in conditions]}

    def _stop(self, plural: str, namespace: str, name: str) -> None:
        process = self._processes.get(name)

        def finish() -> None:
            if process is not None:
                process.terminate()
                process.wait()
            for pod in self.api.all("pods", namespace):
                self.api.delete("pods", namespace, pod["metadata"]["name"])
            with self.api._lock:
                self.api.objects.pop((plural, namespace, name), None)

        thread = threading.Thread(target=finish)
        self._threads.append(thread)
        thread.start()

    def _pod(self, body: Body) -> Body:
        name = body["metadata"]["name"]
        role = f"{name}-node-0-0-{self.attempts}"
        labels = {
            "jobset.sigs.k8s.io/jobset-name": name,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-name": name,
            "batch.kubernetes.io/job-completion-index": "0",
        }
        metadata = {"name": role, "namespace": body["metadata"]["namespace"], "labels": labels}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def condition(api: FakeApi, name: str) -> str:
    """The condition that a TrainJob of the namespace `jobs` has; "gone" without the object."""
    try:
        status = api.get("trainjobs", "jobs", name).get("status", {})
    except Refusal:
        return "gone"
    return "".join(entry["type"] for entry in status.get("conditions", ()))


def _plural(body: Body) -> str:
    return f"{body['kind'].lower()}s"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
