"""An API server with a cluster behind it, and training work for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes.config import kube_config

from taoemb.config import Config, JobConfig, load_config
from taoemb.jobs.cluster import ClusterJob
from taoemb.jobs.training import training_work
from taoemb.jobs.trainjob import train_job
from taoemb.jobs.work import Work
from tests.jobs.fake_cluster import Attempt, FakeCluster
from tests.rollout.fake_api import FakeApi

QUICK = ("job.backend=trainjob", "job.namespace=jobs", "job.poll_s=0.02", "job.backoff_s=0.01")


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as server:
        yield server


@pytest.fixture
def cluster(api: FakeApi) -> Iterator[Callable[..., FakeCluster]]:
    made: list[FakeCluster] = []

    def cluster(*scripts: Attempt) -> FakeCluster:
        made.append(FakeCluster(api, *scripts))
        return made[-1]

    yield cluster
    for one in made:
        one.close()


@pytest.fixture
def reachable(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """The API server as the one that this process's kubeconfig names."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(api.kubeconfig())
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))  # read when it was imported
    return api


def quick(*settings: str) -> Config:
    """Settings of a cluster that is looked at all the time."""
    return load_config(None, [*QUICK, *settings])


def work(config: Config, out: Path = Path("/mnt/runs/a")) -> Work:
    """Some training."""
    return training_work("sft", Path("/mnt/shop"), out, None, config)


def job(api: FakeApi, config: Config, out: Path = Path("/mnt/runs/a")) -> ClusterJob:
    """The same as a job of the fake cluster."""
    settings: JobConfig = config.job
    return ClusterJob(api.client(), train_job(work(config, out), settings, "jobs"), settings, out / "summary.json")
