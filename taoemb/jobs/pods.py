"""Why a job's pods failed, or why they do not start: the program, its input, or the machines below it.

Only what the machines did is worth a new try. One lost node makes the ranks on the others fail too, with exit code 1,
so a sign of lost infrastructure on any pod outweighs the exit codes of the rest; a pod that ran out of memory outweighs
both, because it would again. See Kubernetes' "Disruptions" (the DisruptionTarget condition) and "Pod lifecycle".
"""

import re
from collections.abc import Iterable, Sequence

from taoemb.jobs.work import Ended
from taoemb.serving.kube import Json

BY_SIGNAL = {130, 137, 143}  # 128 + SIGINT, SIGKILL, SIGTERM: programs end so when their pod is stopped
_LOST_REASONS = re.compile(
    r"Evicted|NodeLost|NodeAffinity|NodeShutdown|Shutdown|Terminated|Preempting|UnexpectedAdmissionError|OutOf\S+"
)
_MENDABLE = {"CreateContainerConfigError", "CreateContainerError", "InvalidImageName", "RunContainerError"}
_UNPULLED = {"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"}
_LAUNCHER_REPORT = re.compile(r"exitcode\s*:\s*(\d+)")
_OWN_LINE = re.compile(r"^(?:\[[^]]*\]:?)?\s*taoemb: (.*)$")
_EXCEPTION_LINE = re.compile(r"^(?:\[[^]]*\]:?)?\s*([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit): .*)$")


def name(pod: Json) -> str:
    """Of a pod."""
    return str(pod["metadata"]["name"])


def phase(pod: Json) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def newest(pods: Iterable[Json], labels: Iterable[tuple[str, str]]) -> Json | None:
    """The pod with these labels that was made last; a restarted job has several."""
    wanted = set(labels)
    found = [pod for pod in pods if wanted <= set(pod["metadata"].get("labels", {}).items())]
    return max(found, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), default=None)


def first_failed(pods: Iterable[Json]) -> Json | None:
    """The pod that failed first."""
    failed = [pod for pod in pods if phase(pod) == "Failed"]
    return min(failed, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), default=None)


def failure(pods: Sequence[Json], tail: Sequence[str]) -> Ended:
    """Why a failed job failed; `tail` is the end of the first one's log."""
    for pod in pods:
        if any(state.get("reason") == "OOMKilled" for state in _terminated(pod)):
            return Ended("failed", f"ran out of memory in pod {name(pod)}; raise job.memory or lower the batch")
    lost = [reason for pod in pods for reason in _lost(pod)]
    if lost:
        return Ended("lost", f"lost its machine: {lost[0]}")
    codes = [state["exitCode"] for pod in pods for state in _terminated(pod) if state.get("exitCode")]
    if not codes:
        return Ended("lost", "failed and none of its pods is left to say why")
    code = _program_code(codes[0], tail)
    if code in BY_SIGNAL:
        return Ended("lost", f"was stopped (exit code {code})")
    return Ended("input" if code == 2 else "failed", f"failed: {reason(tail) or f'exit code {code}'}")


def reason(tail: Sequence[str]) -> str:
    """The line of a log that says why: the program's own last one, else the last exception."""
    for pattern in (_OWN_LINE, _EXCEPTION_LINE):
        said = [match[1] for line in tail if (match := pattern.match(line)) and "ChildFailedError" not in line]
        if said:
            return said[-1].strip()
    return ""


def stuck(pods: Iterable[Json]) -> Ended | None:
    """How it ends if the first pod that can't start stays so: for want of its image, or of its configuration."""
    for pod in pods:
        for state in _waiting(pod):
            why = str(state.get("reason", ""))
            said = " ".join(str(state.get("message", "")).split())
            text = f"can't start: pod {name(pod)}: {why}{f': {said}' if said else ''}"
            if why in _UNPULLED:
                return Ended("lost", text)
            if why in _MENDABLE:
                return Ended("input", text)
    return None


def unscheduled(pods: Iterable[Json]) -> str:
    """What the scheduler says of the first pod that has no node yet; empty when all have one."""
    for pod in pods:
        for condition in pod.get("status", {}).get("conditions", ()):
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return f"pod {name(pod)} waits for a node: {condition.get('message') or condition.get('reason')}"
    return ""


def _lost(pod: Json) -> Iterable[str]:
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            yield f"pod {name(pod)}: {condition.get('reason') or 'disrupted'}"
    if _LOST_REASONS.fullmatch(str(status.get("reason", ""))):
        yield f"pod {name(pod)}: {status['reason']}"
    if phase(pod) == "Unknown":
        yield f"pod {name(pod)}: its node does not answer"
    for state in _terminated(pod):
        if state.get("reason") == "ContainerStatusUnknown" or state.get("exitCode") in BY_SIGNAL:
            yield f"pod {name(pod)}: {state.get('reason') or 'stopped'}, exit code {state.get('exitCode')}"


def _program_code(code: int, tail: Sequence[str]) -> int:
    """torchrun ends with 1 whatever its ranks ended with, and reports theirs."""
    reported = [int(match[1]) for line in tail if (match := _LAUNCHER_REPORT.search(line))]
    return reported[-1] if code == 1 and reported else code


def _terminated(pod: Json) -> list[Json]:
    return _states(pod, "terminated")


def _waiting(pod: Json) -> list[Json]:
    return _states(pod, "waiting")


def _states(pod: Json, kind: str) -> list[Json]:
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return [entry["state"][kind] for entry in containers if kind in entry.get("state", {})]
