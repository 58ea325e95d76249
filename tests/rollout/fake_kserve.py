"""KServe and the encoders that it starts, behind one address: what an InferenceService says decides who answers.

Deployments (Standard) and revisions (Knative) follow the object as KServe's own do; a pod template that changes counts
as a restart. Replicas are KServe v0.20.0's (predictor.go) with an autoscaler that follows `load` at once. Paths are
/NAMESPACE/SERVICE/openai/v1/embeddings.
"""

import base64
import json
import math
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from taoemb.config import KServeConfig
from tests.rollout.fake_api import Body, FakeApi, merged

CONTROL, CANDIDATE = "c" * 64, "d" * 64
CONTROL_URI, CANDIDATE_URI = "s3://models/control", "s3://models/candidate"
NAMESPACE, NAME = "search", "encoder"
_REPLICA_FIELDS = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "scaleMetricType", "autoScaling")


@dataclass
class Knative:
    """The revisions of one predictor, the oldest first; each is a pod template."""

    revisions: list[Body] = field(default_factory=list)
    rolled_out: Body | None = None
    """The last one that had all traffic: `prev`."""
    percent: int | None = None


class FakeKServe:
    """Follows the InferenceServices of a FakeApi and answers as their encoders; use as a context manager."""

    def __init__(self, api: FakeApi) -> None:
        self.releases = {CONTROL_URI: CONTROL, CANDIDATE_URI: CANDIDATE}
        """storageUri → the digest that its encoders answer with."""
        self.ready = {CONTROL_URI, CANDIDATE_URI}
        """Those whose encoders are up."""
        self.deployments: dict[tuple[str, str], Body] = {}
        self.knative: dict[tuple[str, str], Knative] = {}
        self.restarts: list[str] = []
        """Deployments whose pods a write made start again."""
        self.vector = (1.0, 0.0)
        """What every text is embedded as."""
        self.load = 0
        """Pods that all traffic together needs; control and candidate have their parts of it."""
        self.room: int | None = None
        """Pods that the cluster has room for; the oldest Deployments have theirs first."""
        self.canaries_wait = False
        """KServe after 0.20.0: the stable is reduced by canaries that are ready only."""
        self.pods: list[dict[str, int]] = []
        """Pods by Deployment after each write of an object."""
        self._objects = api.objects
        api.after_write.append(self.follow)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        url = f"http://127.0.0.1:{self._server.server_port}/{{namespace}}/{{service}}"
        self.config = KServeConfig(service_url=url, timeout_s=5)

    def __enter__(self) -> "FakeKServe":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def follow(self, body: Body) -> None:
        """What KServe's controller does when an InferenceService was written."""
        if body.get("kind") != "InferenceService":
            return
        if body["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard":
            self._follow_standard(body)
        else:
            self._follow_knative(body)

    def release_behind(self, namespace: str, service: str) -> str | None:
        """The digest that answers at a Service; None when nothing does."""
        template = self.deployments.get((namespace, service)) or self._revision(namespace, service)
        uri = template["model"]["storageUri"] if template else None
        return self.releases[uri] if uri in self.ready else None

    def _follow_standard(self, body: Body) -> None:
        namespace, name, spec = body["metadata"]["namespace"], body["metadata"]["name"], body["spec"]
        stable = spec["predictor"]
        predictors = [stable, *(merged(stable, entry["predictor"]) for entry in spec.get("canary", []))]
        wanted = {}
        for predictor in predictors:
            wanted[namespace, _service(name, predictor)] = _template(body, predictor)
        for key, template in wanted.items():
            if self.deployments.get(key, template) != template:
                self.restarts.append(key[1])
        self.deployments = {
            key: template for key, template in self.deployments.items() if not key[1].startswith(f"{name}-")
        } | wanted
        self._scale(body)

    def settle(self, body: Body) -> None:
        """Time passes: the autoscaler looks again."""
        self._scale(body)

    def _scale(self, body: Body) -> None:
        """Replicas of the Deployments of one object; others of its own are orphans and go."""
        namespace, name, spec = body["metadata"]["namespace"], body["metadata"]["name"], body["spec"]
        canaries = {_service(name, entry["predictor"]): entry for entry in spec.get("canary", [])}
        wanted = {key: _canary_replicas(spec, entry) for key, entry in canaries.items()}
        taken = sum(
            wanted[key]
            for key, entry in canaries.items()
            if not self.canaries_wait or entry["predictor"]["model"]["storageUri"] in self.ready
        )
        share = sum(entry["trafficPercent"] for entry in canaries.values()) / 100
        wanted = {_service(name, spec["predictor"]): self._autoscaled(spec["predictor"], taken, share)} | wanted
        left = self.room if self.room is not None else sum(wanted.values())
        for key in [key for key in self._objects if key[:2] == ("deployments", namespace)]:
            if key[2].startswith(f"{name}-") and key[2] not in wanted:
                del self._objects[key]
        for service, replicas in wanted.items():
            ready = min(replicas, left) if self.release_behind(namespace, service) else 0
            left -= ready
            self._objects["deployments", namespace, service] = {
                "metadata": {"namespace": namespace, "name": service},
                "spec": {"replicas": replicas},
                "status": {"replicas": replicas, "readyReplicas": ready},
            }
        self.pods.append(wanted)

    def _autoscaled(self, stable: Body, taken: int, share: float) -> int:
        lowest = stable.get("minReplicas")
        floor = 1 if lowest is None else max(lowest - taken, 1) if taken else lowest
        return max(floor, min(math.ceil(self.load * (1 - share)), max(stable.get("maxReplicas", 0), floor)))

    def _follow_knative(self, body: Body) -> None:
        key = (body["metadata"]["namespace"], f"{body['metadata']['name']}-predictor")
        state = self.knative.setdefault(key, Knative())
        predictor = body["spec"]["predictor"]
        state.percent = predictor.get("canaryTrafficPercent")
        template = _template(body, predictor)
        if not state.revisions or state.revisions[-1] != template:
            state.revisions.append(template)
        self._settle(state)

    def _settle(self, state: Knative) -> Body | None:
        """The latest ready revision; it is rolled out when it has all traffic."""
        ready = [one for one in state.revisions if one["model"]["storageUri"] in self.ready]
        latest = ready[-1] if ready else None
        if state.percent is None:
            state.rolled_out = latest
        return latest

    def _revision(self, namespace: str, service: str) -> Body | None:
        tag, _, name = service.partition("-")
        state = self.knative.get((namespace, name))
        if state is None:
            return None
        latest = self._settle(state)
        if tag == "latest":
            return latest
        return state.rolled_out if tag == "prev" and state.percent is not None else None


def inference_service(mode: str = "Standard", **predictor: Any) -> Body:
    """The object that people write before any rollout."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "namespace": NAMESPACE,
            "name": NAME,
            "annotations": {
                "serving.kserve.io/deploymentMode": mode,
                **({"serving.kserve.io/enable-tag-routing": "true"} if mode == "Knative" else {}),
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": 2,
                "maxReplicas": 6,
                "scaleMetric": "cpu",
                "scaleTarget": 70,
                "model": {
                    "modelFormat": {"name": "taoemb-release"},
                    "storageUri": CONTROL_URI,
                    "resources": {"requests": {"cpu": "1", "memory": "2Gi"}},
                },
                **predictor,
            }
        },
    }


def _service(name: str, predictor: Body) -> str:
    middle = f"-{predictor['name']}" if predictor.get("name") else ""
    return f"{name}{middle}-predictor"


def _canary_replicas(spec: Body, entry: Body) -> int:
    said = entry["predictor"].get("minReplicas")
    return (
        said if said is not None else math.ceil(spec["predictor"].get("minReplicas", 1) * entry["trafficPercent"] / 100)
    )


def _template(body: Body, predictor: Body) -> Body:
    """The pod template: everything but replicas, split and names; annotations of the object are copied into it."""
    annotations = body["metadata"]["annotations"] | predictor.get("annotations", {})
    model = {key: value for key, value in predictor["model"].items() if key != "name"}
    left_out = (*_REPLICA_FIELDS, "name", "canaryTrafficPercent")
    rest = {key: value for key, value in predictor.items() if key not in left_out}
    return {**rest, "annotations": annotations, "model": model}


def _handler(kserve: FakeKServe) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer: two would wait for the client's delayed acknowledgement

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            _, namespace, service, *_rest = self.path.split("/")
            release = kserve.release_behind(namespace, service)
            vector = base64.b64encode(struct.pack(f"<{len(kserve.vector)}f", *kserve.vector)).decode()
            body = {"data": [{"embedding": vector, "index": 0}], "release": release}
            payload = json.dumps(body).encode()
            self.send_response(503 if release is None else 200)
            if release is not None:
                self.send_header("x-taoemb-release", release)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
