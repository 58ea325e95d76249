"""A small Kubernetes API server over HTTP: what the controller's real client meets, without a cluster.

It has what clients trip over: versions that must match, status apart from the rest, generations, finalizers, schemas
with defaults and CEL rules; and it fails on demand.
"""

import copy
import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from kubernetes import client

from taoemb.serving.kube import Objects
from tests.rollout import crd_rules, kserve_rules

Body = dict[str, Any]
WITH_STATUS = {"inferenceservices", "encoderrollouts", "trainjobs"}


class Refusal(Exception):
    """An answer that is not 200."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.body = code, {"kind": "Status", "code": code, "reason": reason, "message": message}


class FakeApi:
    """The objects and the server; use as a context manager."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Body] = {}
        self.requests: list[tuple[str, str]] = []
        self.before: list[Callable[[str, str], None]] = []
        """Called with method and path before each request is answered; may raise Refusal or change objects."""
        self.after: list[Callable[[str, str], None]] = []
        """The same when it was done and not yet answered: a Refusal raised here loses only the answer."""
        self.after_write: list[Callable[[Body], None]] = []
        """Called with each object that was written: other controllers."""
        self.logs: dict[tuple[str, str], list[str]] = {}
        """Of pods, each line with its time stamp before it; a follower gets what there is and must come back."""
        self.managers: dict[str, str] = {}
        """Who wrote an object of that name last: the field manager, else what an API server makes of the user agent."""
        self.lenient = False
        """Check nothing: an API server with another version's schema."""
        self._lock = threading.RLock()
        self._version = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeApi":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def client(self, timeout_s: float = 10.0) -> Objects:
        """The library's own client, on the real `kubernetes` package."""
        configuration = client.Configuration(host=self.url)
        configuration.retries = False
        return Objects(client.ApiClient(configuration), timeout_s)

    def kubeconfig(self) -> str:
        """A kubeconfig file's text that leads here."""
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "fake",
                "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                "users": [{"name": "fake", "user": {}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            }
        )

    def fail(self, method: str, part: str, code: int = 500, times: int = 1) -> None:
        """Let the next `times` requests of that method whose path contains `part` fail."""
        left = [times]

        def hook(asked: str, path: str) -> None:
            if left[0] and asked == method and part in path:
                left[0] -= 1
                raise Refusal(code, "Injected", "injected failure")

        self.before.append(hook)

    def put(self, plural: str, body: Body) -> Body:
        """Create an object from a test."""
        return self.create(plural, body["metadata"]["namespace"], body)

    def get(self, plural: str, namespace: str, name: str) -> Body:
        """A copy of an object. Raises Refusal."""
        with self._lock:
            if (plural, namespace, name) not in self.objects:
                raise Refusal(404, "NotFound", f'{plural} "{name}" not found')
            return copy.deepcopy(self.objects[plural, namespace, name])

    def all(self, plural: str, namespace: str = "", labels: str = "") -> list[Body]:
        """Copies of all objects of a kind; `labels` is a selector a=b,c=d."""
        wanted = {tuple(part.split("=", 1)) for part in labels.split(",") if part}
        with self._lock:
            found = [body for (kind, where, _), body in self.objects.items() if kind == plural]
            found = [body for body in found if wanted <= set(body["metadata"].get("labels", {}).items())]
            return copy.deepcopy([body for body in found if namespace in ("", body["metadata"]["namespace"])])

    def log(self, namespace: str, name: str, query: dict[str, str]) -> str:
        """Text of a pod's log. Raises Refusal when the pod has not started."""
        with self._lock:
            if (namespace, name) not in self.logs:
                raise Refusal(400, "BadRequest", f'container in pod "{name}" is waiting to start')
            lines = [line for line in self.logs[namespace, name] if line[:20] >= query.get("sinceTime", "")]
        lines = lines[-int(query["tailLines"]) :] if "tailLines" in query else lines
        stamped = "timestamps" in query
        return "".join(f"{line if stamped else line.partition(' ')[2]}\n" for line in lines)

    def create(self, plural: str, namespace: str, body: Body) -> Body:
        """POST."""
        with self._lock:
            body = copy.deepcopy(body)
            metadata = body.setdefault("metadata", {})
            metadata["namespace"] = namespace
            if (plural, namespace, metadata["name"]) in self.objects:
                raise Refusal(409, "AlreadyExists", f'{plural} "{metadata["name"]}" already exists')
            metadata |= {
                "uid": str(uuid.uuid4()),
                "generation": 1,
                "creationTimestamp": datetime.now(UTC).isoformat(),
            }
            if plural in WITH_STATUS:
                body.pop("status", None)
            return self._store(plural, body, None)

    def write(self, plural: str, namespace: str, name: str, body: Body, *, status: bool, merge: bool) -> Body:
        """PUT and PATCH, of the object or of its status."""
        with self._lock:
            old = self.get(plural, namespace, name)
            wanted = body.get("metadata", {}).get("resourceVersion")
            if wanted is not None and wanted != old["metadata"]["resourceVersion"]:
                raise Refusal(409, "Conflict", f'{plural} "{name}": the object has been modified')
            new = merged(old, body) if merge else copy.deepcopy(body)
            if plural in WITH_STATUS:
                if status:
                    new = {**old, "status": new.get("status", {})}
                else:
                    new = {**new, "status": old["status"]} if "status" in old else _without(new, "status")
            kept = ("uid", "generation", "creationTimestamp", "deletionTimestamp", "namespace", "name")
            new["metadata"] = new["metadata"] | {key: old["metadata"][key] for key in kept if key in old["metadata"]}
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] += 1
            return self._store(plural, new, old)

    def delete(self, plural: str, namespace: str, name: str) -> Body:
        """DELETE; an object with finalizers is only marked."""
        with self._lock:
            body = self.get(plural, namespace, name)
            if body["metadata"].get("finalizers"):
                body["metadata"]["deletionTimestamp"] = datetime.now(UTC).isoformat()
                return self._store(plural, body, body)
            del self.objects[plural, namespace, name]
            return {"kind": "Status", "status": "Success"}

    def _store(self, plural: str, body: Body, old: Body | None) -> Body:
        body = body if self.lenient else _check(plural, body, old)
        self._version += 1
        metadata = body["metadata"]
        metadata["resourceVersion"] = str(self._version)
        key = (plural, metadata["namespace"], metadata["name"])
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self.objects.pop(key, None)
        else:
            self.objects[key] = body
            for hook in self.after_write:
                hook(copy.deepcopy(body))
        return copy.deepcopy(body)


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    base = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = merged(base.get(key), value)
    return copy.deepcopy(base)


def _check(plural: str, body: Body, old: Body | None) -> Body:
    """The object with defaults. Raises Refusal when the schema, a CEL rule or a webhook says no."""
    schemas = {
        "encoderrollouts": crd_rules.encoder_rollouts,
        "inferenceservices": crd_rules.inference_services,
        "trainjobs": crd_rules.train_jobs,
    }
    schema = schemas[plural]() if plural in schemas else None
    if schema is None:
        return body
    if plural == "encoderrollouts":
        body = schema.defaulted(body)
    wrong = schema.errors(body) or schema.broken_rules(body, old)
    if plural == "inferenceservices":
        wrong = wrong or kserve_rules.broken(body)
    if wrong:
        raise Refusal(422, "Invalid", "; ".join(wrong))
    return body


def _without(body: Body, key: str) -> Body:
    return {name: value for name, value in body.items() if name != key}


def _handler(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer: two would wait for the client's delayed acknowledgement

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = json.loads(self.rfile.read(length)) if length else {}
            path, _, asked = self.path.partition("?")
            query = dict(parse_qsl(asked))
            try:
                api.requests.append((self.command, path))
                if sent:
                    agent = self.headers.get("User-Agent", "").partition("/")[0]
                    name = sent.get("metadata", {}).get("name") or path.rsplit("/", 1)[-1]
                    api.managers[name] = query.get("fieldManager", agent)
                for hook in list(api.before):
                    hook(self.command, path)
                code, body = 201 if self.command == "POST" else 200, self._do(path, sent, query)
                for hook in list(api.after):
                    hook(self.command, path)
            except Refusal as refusal:
                code, body = refusal.code, refusal.body
            payload = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def _do(self, path: str, sent: Body, query: dict[str, str]) -> Body | str:
            parts = path.strip("/").split("/")
            parts = parts[2:] if parts[0] == "api" else parts[3:]
            namespace = ""
            if parts[0] == "namespaces" and len(parts) > 2:
                namespace, parts = parts[1], parts[2:]
            plural, name, sub = (*parts, "", "")[:3]
            if self.command == "GET" and sub == "log":
                return api.log(namespace, name, query)
            if self.command == "GET" and not name:
                return {"items": api.all(plural, namespace, query.get("labelSelector", ""))}
            if self.command == "GET":
                return api.get(plural, namespace, name)
            if self.command == "POST":
                return api.create(plural, namespace, sent)
            if self.command == "DELETE":
                return api.delete(plural, namespace, name)
            merge = self.command == "PATCH"
            if merge and self.headers["Content-Type"] != "application/merge-patch+json":
                raise Refusal(415, "UnsupportedMediaType", self.headers["Content-Type"])
            if not merge and "resourceVersion" not in sent["metadata"]:
                raise Refusal(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
            return api.write(plural, namespace, name, sent, status=sub == "status", merge=merge)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
