"""A catalogue embedded in shards side by side: processes of this machine, or an indexed Job on a cluster.

Each shard is `taoemb publish --bulk DIR --shard I/N`, which writes its file whole or not at all and leaves a finished
one alone. So a run that was stopped starts only what is missing, and more machines make it shorter and nothing else.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from taoemb.config import Config, worker_environment
from taoemb.jobs.shard_job import shard_job
from taoemb.jobs.training import flow
from taoemb.jobs.work import Ended, Job, job_name, run_job

POLL_S = 0.1
TITLE = "publish"


def run_shards(release: Path, data: Path, bulk: Path, missing: Sequence[int], of: int, config: Config) -> None:
    """Write the `missing` shards (from 1) of `of` where `config.job` says, and wait.

    Raises InputError or TaoembError with the reason of a shard that failed; the others' files stay.
    """
    if not missing:
        return
    command = ["publish", "--release", str(release), "--data", str(data), "--bulk", str(bulk), "--json"]
    for section in ("milvus", "encoder"):
        told = config.model_dump(mode="json", include={section}, exclude_unset=True).get(section, {})
        command += ["--set", f"{section}={flow(told)}"]
    if config.job.backend == "local":
        run_job(_LocalShards(command, missing, of, config.job.ranks or 1), TITLE)
        return
    run_job(_on_cluster(command, bulk, missing, of, config), TITLE, retries=config.job.retries)


def _on_cluster(command: Sequence[str], bulk: Path, missing: Sequence[int], of: int, config: Config) -> Job:
    from taoemb.jobs.cluster import ClusterJob
    from taoemb.serving.kube import connect, own_namespace

    objects = connect()
    name = job_name("shards", bulk)
    manifest = shard_job(TITLE, name, command, missing, of, config.job, config.job.namespace or own_namespace())
    return ClusterJob(objects, manifest, config.job)


class _LocalShards:
    """A job (`taoemb.jobs.work.Job`) of one process a shard, `at_once` of them side by side."""

    def __init__(self, command: Sequence[str], missing: Sequence[int], of: int, at_once: int) -> None:
        self._command = [sys.executable, "-m", "taoemb", *command]
        self._missing, self._of, self._at_once = missing, of, min(at_once, len(missing))
        self._waiting: list[int] = []
        self._running: list[subprocess.Popen[bytes]] = []

    def submit(self) -> None:
        """Get ready; `wait` starts the processes as places become free."""
        self._waiting = list(self._missing)

    def logs(self) -> Iterator[str]:
        """Nothing: the processes write for themselves."""
        return iter(())

    def wait(self) -> Ended:
        """Until all shards are written; the first that fails stops the others."""
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self._at_once:
                self._running.append(self._start(self._waiting.pop(0)))
            for process in list(self._running):
                code = process.poll()
                if code is not None:
                    self._running.remove(process)
                if code:
                    self.cancel()
                    reason = f"a shard ended with exit code {code}; its reason is in the line above"
                    return Ended("input" if code == 2 else "failed", reason)
            time.sleep(POLL_S)
        return Ended("done")

    def cancel(self) -> None:
        """Stop the running shards; what they had begun is not kept."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait()
        self._running = []

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        environment = worker_environment(self._at_once)
        command = [*self._command, "--shard", f"{number}/{self._of}"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
