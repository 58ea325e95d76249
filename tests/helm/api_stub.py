"""As much of an API server as Helm asks when it renders: what kinds there are, and the objects that `lookup` reads."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Object = dict[str, Any]
BUILT_IN = {
    "v1": {
        "Namespace": "namespaces",
        "Secret": "secrets",
        "ConfigMap": "configmaps",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
        "Pod": "pods",
        "PersistentVolumeClaim": "persistentvolumeclaims",
    },
    "apps/v1": {"Deployment": "deployments"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "coordination.k8s.io/v1": {"Lease": "leases"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition": "customresourcedefinitions"},
    "rbac.authorization.k8s.io/v1": {
        "Role": "roles",
        "RoleBinding": "rolebindings",
        "ClusterRole": "clusterroles",
        "ClusterRoleBinding": "clusterrolebindings",
    },
}
CLUSTER_WIDE = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}


@dataclass
class Server:
    """The kinds by group and version (kind → plural), and the objects by path."""

    kinds: Mapping[str, Mapping[str, str]]
    objects: Mapping[str, Object]
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def kubeconfig(self) -> str:
        """The text of a kubeconfig file that leads here."""
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "stub",
                "clusters": [{"name": "stub", "cluster": {"server": self.url}}],
                "users": [{"name": "stub", "user": {}}],
                "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
            }
        )

    def answer(self, path: str) -> Object | None:
        """The answer to a GET; None: 404."""
        groups = sorted({version.split("/")[0] for version in self.kinds if "/" in version})
        if path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self._group(name) for name in groups]}
        for version, kinds in self.kinds.items():
            if path == (f"/apis/{version}" if "/" in version else f"/api/{version}"):
                resources = [_resource(kind, plural) for kind, plural in kinds.items()]
                return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        return self.objects.get(path)

    def _group(self, name: str) -> Object:
        versions = [
            {"groupVersion": version, "version": version.split("/")[1]}
            for version in self.kinds
            if version.startswith(f"{name}/")
        ]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _resource(kind: str, plural: str) -> Object:
    verbs = ["get", "list", "create", "patch"]
    return {"name": plural, "singularName": "", "namespaced": kind not in CLUSTER_WIDE, "kind": kind, "verbs": verbs}


@contextmanager
def serving(kinds: Mapping[str, Mapping[str, str]], objects: Mapping[str, Object]) -> Iterator[Server]:
    """Serve these on a free loopback port."""
    state = Server({**BUILT_IN, **kinds}, objects)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            state.asked.append(path)
            found = state.answer(path)
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            content = json.dumps(missing if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Requests are kept in `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
