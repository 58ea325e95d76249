"""`make test-cluster` knows in seconds what a cluster lacks; here kubectl is a table of answers."""

import json
import time

from tests.helm.cluster_parts import missing_parts, wait_ready

URI = "http://milvus.milvus.svc.cluster.local:19530"
NODE = {"metadata": {"name": "one"}}


def kubectl(**answers):
    def run(*arguments: str) -> str:
        kind = next(word for word in arguments if word in ("nodes", "deployments", "endpointslices", "pods"))
        return json.dumps({"items": answers.get(kind, [])})

    return run


def pod(name="gateway", **status):
    return {"metadata": {"name": name}, "status": status}


def waiting(reason: str) -> dict:
    return {"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]}


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def test_what_is_missing_is_said_with_where_to_get_it():
    bare = missing_parts(kubectl(), URI)
    assert [words.partition(":")[0] for words in bare] == ["nodes", "KServe's controller", "Milvus at http"]
    assert "docs/kubernetes.md" in bare[1]
    slices = [{"metadata": {"namespace": "milvus"}, "endpoints": [{"addresses": ["10.0.0.7"]}]}]
    assert missing_parts(kubectl(nodes=[NODE], deployments=[NODE], endpointslices=slices), URI) == []
    elsewhere = [{"metadata": {"namespace": "other"}, "endpoints": [{}]}, {"metadata": {"namespace": "milvus"}}]
    found = missing_parts(kubectl(nodes=[NODE], deployments=[NODE], endpointslices=elsewhere), URI)
    assert found == [f"Milvus at {URI}: docs/kubernetes.md installs it"]


def test_a_pod_that_never_will_be_ready_is_not_waited_for():
    begun = time.monotonic()
    pods = [pod("encoder", **waiting("ImagePullBackOff")), pod("gateway", **READY), pod("test", phase="Succeeded")]
    assert wait_ready(kubectl(pods=pods), "search", patience_s=900) == [
        "pod encoder: its image can't be pulled: push it, or load it into the nodes (docs/images.md)"
    ]
    assert time.monotonic() - begun < 10


def test_patience_ends_with_words():
    unscheduled = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient memory"}]}
    found = wait_ready(kubectl(pods=[pod(**unscheduled), pod("other")]), "search", patience_s=0, pause_s=0.01)
    assert found == ["pod gateway: no node takes it: Insufficient memory", "pod other: not ready"]
    assert wait_ready(kubectl(), "search", patience_s=0) == ["no pod came into being within 0 s"]
    assert wait_ready(kubectl(pods=[pod(**READY)]), "search", patience_s=0) == []
