"""The Kubernetes API as plain JSON: one connection, objects by their path, and the two answers that callers handle.

The generated client is used for what it knows best (kubeconfig, in-cluster tokens and their renewal, TLS); objects stay
dictionaries, because custom resources have no classes there.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from taoemb import __version__
from taoemb.errors import InputError, TaoembError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Json = dict[str, Any]
Subresource = Literal["", "status", "log"]
FIELD_MANAGER = "taoemb"
"""Whose fields they are, in `metadata.managedFields` and in conflicts with server-side apply."""
_MERGE = "application/merge-patch+json"
_MOST_WORDS = 300
_CHUNK = 1 << 16
_IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Missing(TaoembError):
    """The object (or its kind) is not there."""


class Conflict(TaoembError):
    """Somebody else wrote first, or it exists already: read again."""


@dataclass(frozen=True)
class Kind:
    """A kind of object as the API's paths name it."""

    group: str
    """Empty: the core API."""
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """What stands in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: Subresource = "") -> str:
        """Path of an object, of all in a namespace, or (without one) of all."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (f"{root}{within}/{self.plural}", name, subresource) if part)


PODS = Kind("", "v1", "pods")
INFERENCE_SERVICES = Kind("serving.kserve.io", "v1beta1", "inferenceservices")


class Objects:
    """Reads and writes objects. Raises Missing, Conflict, and TaoembError for everything else that fails."""

    def __init__(self, api: "ApiClient", timeout_s: float = 10.0) -> None:
        self._api, self._timeout_s = api, timeout_s
        api.user_agent = f"{FIELD_MANAGER}/{__version__}"

    def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """One object."""
        return self._call("GET", kind.path(namespace, name))

    def list(self, kind: Kind, namespace: str = "", labels: str = "") -> list[Json]:
        """All objects of a namespace (without one, of all namespaces), or those that a label selector matches."""
        query = {"labelSelector": labels} if labels else None
        return list(self._call("GET", kind.path(namespace), query=query)["items"])

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Json:
        """Make an object; Conflict when it exists."""
        return self._call("POST", kind.path(namespace), body)

    def replace(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> Json:
        """Write an object whole; Conflict unless its resourceVersion is the newest."""
        return self._call("PUT", kind.path(namespace, name), body)

    def patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: Subresource = ""
    ) -> Json:
        """Merge into an object (RFC 7386); Conflict when `body` names a resourceVersion that is not the newest."""
        return self._call("PATCH", kind.path(namespace, name, subresource), body)

    def delete(self, kind: Kind, namespace: str, name: str, *, whole: bool = False) -> None:
        """Remove an object; a `whole` one stays in sight until everything that it owns is gone."""
        query = {"propagationPolicy": "Foreground"} if whole else None
        self._call("DELETE", kind.path(namespace, name), query=query)

    def log(self, namespace: str, pod: str, silent_s: float, **query: str) -> Iterator[str]:
        """Lines of a pod's log; with `follow` as they come, until the stream ends or is silent for `silent_s`."""
        from urllib3.exceptions import HTTPError

        answer = self._call("GET", PODS.path(namespace, pod, "log"), query=query, stream_s=silent_s)
        rest = b""
        try:
            for part in answer.stream(_CHUNK):
                *lines, rest = (rest + part).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in lines)
        except (HTTPError, OSError):  # a follower comes back
            return
        finally:
            answer.release_conn()
        if rest:
            yield rest.decode("utf-8", "replace")

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        stream_s: float = 0.0,
    ) -> Any:
        """The answer's JSON; with `stream_s` (seconds without a byte) the answer itself, to be read."""
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "*/*" if stream_s else "application/json"}
        written_by = [] if body is None else [("fieldManager", FIELD_MANAGER)]
        if body is not None:
            headers["Content-Type"] = _MERGE if method == "PATCH" else "application/json"
        try:
            answer = self._api.call_api(
                path,
                method,
                query_params=[*(query or {}).items(), *written_by],
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                response_type=None if stream_s else "object",
                _return_http_data_only=True,
                _preload_content=not stream_s,
                _request_timeout=(self._timeout_s, stream_s) if stream_s else self._timeout_s,
            )
        except ApiException as refusal:
            raise _meaning(method, path, refusal.status, refusal.body or refusal.reason or "") from None
        except (HTTPError, ConfigException, OSError, ValueError) as error:
            raise TaoembError(f"{method} {path}: the API server does not answer: {error}") from None
        return answer if stream_s else dict(answer)


def connect(timeout_s: float = 10.0) -> Objects:
    """The cluster that KUBECONFIG or ~/.kube/config names, else the one that this pod runs in.

    Raises InputError when there is neither.
    """
    try:
        from kubernetes import client, config
    except ImportError:
        raise InputError("Kubernetes needs the Python package kubernetes: pip install 'taoemb[serve]'") from None
    settings = client.Configuration()
    settings.retries = False  # callers try again themselves, knowing what may be repeated
    try:
        config.load_kube_config(client_configuration=settings)
    except config.ConfigException as no_file:
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            raise InputError(f"no Kubernetes cluster: {no_file}; set KUBECONFIG, or run this in a pod") from None
    return Objects(client.ApiClient(settings), timeout_s)


def own_namespace() -> str:
    """The namespace of the cluster that `connect` finds: the kubeconfig context's, else the pod's, else `default`."""
    from kubernetes import config

    try:
        _, context = config.list_kube_config_contexts()
    except config.ConfigException:
        return _IN_POD.read_text(encoding="utf-8").strip() if _IN_POD.is_file() else "default"
    return str(context["context"].get("namespace") or "default")


def _meaning(method: str, path: str, status: int, body: str | bytes) -> TaoembError:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    try:
        said = str(json.loads(text).get("message", text))
    except (ValueError, AttributeError):
        said = text
    message = f"{method} {path}: {status}: {' '.join(said.split())[:_MOST_WORDS]}"
    if status == 404:
        return Missing(message)
    if status == 409:
        return Conflict(message)
    if status in (401, 403):
        return TaoembError(f"{message}; docs/controller.md lists the rights that are needed")
    if status == 422:
        return InputError(message)
    return TaoembError(message)
