"""What becomes of a training job when a machine is lost, and when its program fails: Job's and JobSet's rules as code.

https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy, https://jobset.sigs.k8s.io/docs/concepts/#failure-policy
"""

import pytest

from tests.helm.rendering import Object, objects, of_kind

LOST = {"DisruptionTarget": "True"}


def torch_runtime(*more: str) -> Object:
    found = of_kind(objects("default", *more), "TrainingRuntime")
    (runtime,) = [one for one in found if one["metadata"]["name"].endswith("-torch")]
    return runtime["spec"]["template"]["spec"]


def job_ends(job: Object, conditions: dict[str, str]) -> str:
    """The reason of the failed Job when its first pod failed with these conditions; empty: it makes a new pod."""
    for rule in job["podFailurePolicy"]["rules"]:
        if any(conditions.get(one["type"]) == one["status"] for one in rule["onPodConditions"]):
            assert rule["action"] == "FailJob"
            return "PodFailurePolicy"
    return "" if job.get("backoffLimit", 6) else "BackoffLimitExceeded"


def job_set_does(job_set: Object, reason: str, restarts: int) -> str:
    """What JobSet does when a Job of it failed for that reason after so many restarts."""
    policy = job_set["failurePolicy"]
    for rule in policy["rules"]:
        if reason in rule["onJobFailureReasons"]:
            return str(rule["action"])
    return "RestartJobSet" if restarts < policy["maxRestarts"] else "FailJobSet"


@pytest.mark.parametrize("most", [0, 2])
def test_a_lost_machine_starts_the_job_again_and_a_failing_program_does_not(most):
    job_set = torch_runtime("--set", f"training.maxRestarts={most}")
    (job,) = [one["template"]["spec"] for one in job_set["replicatedJobs"]]
    done = [job_set_does(job_set, job_ends(job, LOST), restarts) for restarts in range(most + 1)]
    assert done == ["RestartJobSet"] * most + ["FailJobSet"]
    assert job_set_does(job_set, job_ends(job, {}), 0) == "FailJobSet"


def test_the_kubelet_restarts_nothing():
    (job,) = [one["template"]["spec"] for one in torch_runtime()["replicatedJobs"]]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # Kubernetes also asks for it beside a podFailurePolicy
