"""A job on a cluster: logs, new tries after lost machines only, one line for what failed, picked up and cancelled."""

import pytest

from taoemb.errors import InputError, TaoembError
from taoemb.jobs.work import run_job
from tests.jobs.conftest import job, quick, work
from tests.jobs.fake_cluster import EVICTED, PULL, SECRET, Attempt, condition, exited

DONE = exited(0, "training", "trained")
TORCHRUN_REPORT = ("taoemb: items.parquet has no rows", "  exitcode  : 2 (pid: 7)", "torch…errors.ChildFailedError: x")


def run(api, *settings, **more):
    """Run the job of tests/jobs/conftest.py; returns its lines and the pauses between tries."""
    config, said, pauses = quick(*settings), [], []
    tries = {"retries": config.job.retries, "backoff_s": config.job.backoff_s}
    run_job(job(api, config, **more), "train sft", **tries, say=said.append, sleep=pauses.append)
    return said, pauses


def test_a_job_s_lines_come_once_and_it_is_done(api, cluster):
    cluster(DONE)
    said, pauses = run(api)
    assert said == ["training", "trained"]
    assert pauses == []


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        (EVICTED, "Preempted"),
        (exited(143), "exit code 143"),
        (Attempt({"terminated": {"exitCode": 1}}, {"reason": "NodeLost"}, ["NCCL error"]), "NodeLost"),
        (exited(137, reason="ContainerStatusUnknown"), "ContainerStatusUnknown"),
        (Attempt({}, {"reason": "UnexpectedAdmissionError"}), "UnexpectedAdmissionError"),
        (Attempt({"running": {}}, {"phase": "Unknown"}), "its node does not answer"),
        (Attempt({"waiting": {"reason": "ContainerCreating"}}, {}), "none of its pods is left to say why"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lost_machines_are_tried_again_with_growing_pauses(api, cluster, lost, why):
    machine = cluster(lost, lost, DONE)
    said, pauses = run(api)
    assert machine.attempts == 3
    assert pauses == [pytest.approx(0.01), pytest.approx(0.02)]
    assert sum(why in line for line in said) == 2
    assert said[-1] == "trained"


def test_tries_end(api, cluster):
    machine = cluster(*[EVICTED] * 3)
    with pytest.raises(TaoembError, match=r"Preempted \(2 tries\); the same command goes on from its checkpoint"):
        run(api, "job.retries=1")
    assert machine.attempts == 2


@pytest.mark.parametrize(
    ("failed", "kind", "why"),
    [
        (exited(1, "step 1", "taoemb: the judge is away", "bye"), TaoembError, "train sft failed: the judge is away"),
        (exited(1, *TORCHRUN_REPORT), InputError, "train sft failed: items.parquet has no rows"),
        (exited(2, "taoemb: --data: nothing there"), InputError, "train sft failed: --data: nothing there"),
        (exited(1, "Traceback", "ValueError: bad"), TaoembError, "train sft failed: ValueError: bad"),
        (exited(1), TaoembError, "train sft failed: exit code 1"),
        (exited(137, reason="OOMKilled"), TaoembError, "ran out of memory"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failing_program_is_not_tried_again(api, cluster, failed, kind, why):
    machine = cluster(failed, DONE)
    with pytest.raises(TaoembError, match=why) as error:
        run(api)
    assert type(error.value) is kind
    assert machine.attempts == 1


def test_one_lost_node_outweighs_what_it_did_to_the_others(api, cluster):
    labels = {"jobset.sigs.k8s.io/jobset-name": work(quick()).name}
    metadata = {"name": "other", "namespace": "jobs", "labels": labels}
    status = {"phase": "Failed", "reason": "Evicted"}
    api.put("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})
    cluster(exited(1, "RuntimeError: connection closed by peer"), DONE)
    said, _ = run(api)
    assert "pod other: Evicted" in "\n".join(said)


def test_an_image_that_never_comes_is_given_up_and_tried_again(api, cluster):
    machine = cluster(Attempt(PULL, ends=""), DONE)
    said, _ = run(api, "job.start_timeout_s=0.1")
    assert machine.attempts == 2
    assert "ImagePullBackOff: no such image" in said[0]


def test_a_missing_secret_is_for_people(api, cluster):
    cluster(Attempt(SECRET, ends=""))
    with pytest.raises(InputError, match='secret "judge-key" not found'):
        run(api, "job.start_timeout_s=0.1")
    assert not api.all("trainjobs")


def test_a_queue_and_a_full_cluster_are_told(api, cluster):
    waiting = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    machine = cluster(Attempt({"waiting": {"reason": "Pending"}}, {"conditions": [waiting]}, ends=""))
    lines = job_lines(api)
    assert next(lines) == "train sft: pod " + POD + " waits for a node: 0/3 nodes are available"
    machine.end(api.all("trainjobs")[0], "Suspended")
    assert next(lines) == "train sft: waits in the queue: told so"


POD = f"{work(quick()).name}-node-0-0-1"


def job_lines(api):
    one = job(api, quick())
    one.submit()
    return one.logs()


def test_the_same_command_finds_the_same_job(api, cluster, tmp_path):
    machine = cluster(Attempt(ends=""), DONE)
    job(api, quick()).submit()
    job(api, quick()).submit()
    assert machine.attempts == 1
    with pytest.raises(InputError, match="runs already with other settings"):
        job(api, quick("sft.steps=7")).submit()
    machine.end(api.all("trainjobs")[0], "Complete")
    job(api, quick()).submit()
    assert machine.attempts == 1  # done is done
    job(api, quick("sft.steps=7")).submit()
    assert machine.attempts == 2  # with other settings it is another run


def test_a_finished_job_whose_results_were_removed_runs_again(api, cluster, tmp_path):
    machine = cluster(DONE, DONE, DONE)
    out = tmp_path / "run"
    run(api, out=out)
    run(api, out=out)
    assert machine.attempts == 2
    out.mkdir()
    (out / "summary.json").touch()
    run(api, out=out)
    assert machine.attempts == 2


def test_a_failed_job_is_replaced_by_the_next_command(api, cluster):
    machine = cluster(exited(1), DONE)
    with pytest.raises(TaoembError):
        run(api)
    run(api)
    assert machine.attempts == 2


def test_an_interrupt_cancels_and_waits(api, cluster):
    cluster(Attempt(lines=("step 1",), ends=""))

    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job(api, quick()), "train sft", say=interrupt)
    assert condition(api, work(quick()).name) == "gone"
    assert not api.all("pods")


def test_lines_come_once_over_broken_streams_and_an_api_server_that_is_away(api, cluster):
    machine = cluster(Attempt(lines=("one", "two"), ends=""))
    lines = job_lines(api)
    assert [next(lines), next(lines)] == ["one", "two"]
    api.fail("GET", "trainjobs", times=3)
    api.fail("GET", "/log", code=500, times=2)
    api.logs["jobs", POD] += ["2099-01-01T00:00:00.5Z three", "2099-01-01T00:00:00.50001Z four"]
    assert [next(lines), next(lines)] == ["three", "four"]
    machine.end(api.all("trainjobs")[0], "Complete")
    assert list(lines) == []


def test_a_job_that_somebody_deletes_has_failed(api, cluster):
    cluster(Attempt(lines=("one",), ends=""))
    one = job(api, quick())
    one.submit()
    lines = one.logs()
    assert next(lines) == "one"
    api.client().delete(one._manifest.kind, "jobs", one._manifest.name)
    assert list(lines) == []
    assert "was deleted on the cluster" in one.wait().reason


def test_a_cluster_without_trainer_says_so(api):
    api.fail("POST", "trainjobs", code=404)
    with pytest.raises(InputError, match="is Kubeflow Trainer installed"):
        job(api, quick()).submit()
