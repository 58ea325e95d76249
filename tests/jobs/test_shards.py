"""A catalogue embedded in shards: side by side here or as an indexed Job; only what is missing, each file whole."""

import subprocess

import pytest

from taoemb.cli.main import main
from taoemb.config import load_config
from taoemb.errors import InputError, TaoembError
from taoemb.jobs.cluster import ClusterJob
from taoemb.jobs.shard_job import shard_job
from taoemb.jobs.shards import run_shards
from taoemb.jobs.work import run_job
from taoemb.retrieval.bulk import missing_shards
from tests.jobs.conftest import quick
from tests.jobs.fake_cluster import EVICTED, Attempt, exited
from tests.retrieval.conftest import releases
from tests.retrieval.tiny_shop import shop, write_items

__all__ = ["releases"]

COMMAND = ("publish", "--release", "/mnt/a release", "--data", "/mnt/shop", "--bulk", "/mnt/bulk")


def manifest(*settings, missing=(2, 5, 6), of=8):
    return shard_job("publish", "taoemb-shards-1", COMMAND, missing, of, load_config(None, settings).job, "jobs")


@pytest.fixture
def embed(releases, tmp_path):
    """Write the missing shards of a small catalogue; gives the shards that were missing before."""
    data = write_items(tmp_path / "data", shop(30))

    def embed(of, *settings):
        config = load_config(None, settings)
        missing = [one.number for one in missing_shards(releases.base, data, config.milvus, tmp_path / "bulk", of)]
        run_shards(releases.base.path, data, tmp_path / "bulk", missing, of, config)
        return missing

    return embed


@pytest.mark.slow
def test_only_missing_shards_are_written(embed, tmp_path):
    assert embed(2, "job.ranks=2") == [1, 2]
    one, two = sorted(tmp_path.glob("bulk/*/*.parquet"))
    two.unlink()
    written = one.stat().st_mtime_ns
    assert embed(2) == [2]
    assert (one.stat().st_mtime_ns, two.exists()) == (written, True)
    assert embed(2) == []
    assert not list(tmp_path.glob("bulk/*/*.partial"))


def test_another_set_of_shards_or_another_catalogue_is_refused(embed, releases, tmp_path):
    embed(1)
    with pytest.raises(InputError, match=r"holds shards of 1, not of 2; give --shards 1"):
        embed(2)
    write_items(tmp_path / "data", shop(31))
    with pytest.raises(InputError, match="made from another catalogue or encoder"):
        embed(1)


def test_a_shard_that_fails_stops_the_rest(releases, tmp_path, capfd):
    with pytest.raises(InputError, match="a shard ended with exit code 2; its reason is in the line above"):
        run_shards(releases.base.path, tmp_path / "none", tmp_path / "bulk", [1, 2, 3], 3, load_config())
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert str(tmp_path / "none") in said[0]


def test_the_indexed_job_is_one_that_kubernetes_knows(tmp_path):
    settings = (
        "job.backend=trainjob",
        "job.nodes=2",
        "job.volumes={artefacts: /mnt}",
        "job.secrets={key: /secrets}",
        "job.memory=8Gi",
        "job.cpu=2",
        "job.queue=night",
        "job.tolerations=[{key: gpu, operator: Exists}]",
        "job.node_selector={pool: gpu}",
        "job.service_account=embedder",
    )
    validate = pytest.importorskip("kubernetes_validate", reason="needs pip install kubernetes-validate")
    body = manifest(*settings).body
    validate.validate(body, "1.36", strict=True)
    spec = body["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (3, 2, "Indexed")
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"
    assert spec["podFailurePolicy"]["rules"][0]["action"] == "Ignore"


def test_each_index_writes_its_own_missing_shard(tmp_path):
    (tmp_path / "taoemb").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (tmp_path / "taoemb").chmod(0o755)
    command = manifest().body["spec"]["template"]["spec"]["containers"][0]["command"]
    said = []
    for index in range(3):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "JOB_COMPLETION_INDEX": str(index)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout.split("|")[:-1])
    assert said == [[*COMMAND, "--shard", f"{number}/8"] for number in (2, 5, 6)]


def run(api, *scripts):
    said = []
    job = ClusterJob(api.client(), manifest("job.retries=1"), quick().job)
    run_job(job, "publish", retries=1, say=said.append, sleep=lambda _: None)
    return said


def test_an_indexed_job_is_followed_to_its_end(api, cluster):
    machine = cluster(Attempt(ends=""))
    job = ClusterJob(api.client(), manifest(), quick().job)
    job.submit()
    lines = job.logs()
    assert next(lines) == "publish: 0 of 3 done"
    (body,) = api.all("jobs")
    api.objects["jobs", "jobs", body["metadata"]["name"]]["status"] = {"succeeded": 2}
    assert next(lines) == "publish: 2 of 3 done"
    machine.end(body, "Complete")
    assert list(lines) == []
    assert job.wait().state == "done"


def test_lost_pods_are_tried_again_and_failing_programs_are_not(api, cluster):
    machine = cluster(EVICTED, exited(0))
    run(api)
    assert machine.attempts == 2
    api.objects.clear()
    machine.scripts.append(exited(2, "taoemb: items.parquet: row 3 is wrong"))
    with pytest.raises(TaoembError, match=r"publish failed: items.parquet: row 3 is wrong"):
        run(api)
    assert machine.attempts == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shards", "2"], "--shards: give the folder of the shards too"),
        (["--shards", "2", "--shard", "1/2", "--bulk", "b"], "--shard and --shards: give one of them"),
        (["--shards", "2", "--bulk", "b"], "bulk import needs a Milvus server"),
    ],
)
def test_the_command_needs_a_bulk_folder_and_a_server(more, message, capsys):
    with pytest.raises(SystemExit) as done:
        main(["publish", "--release", "r", "--data", "d", *more])
    said = capsys.readouterr().err
    assert (done.value.code, message in said) == (2, True), said
    assert len(said.strip().splitlines()) == 1
