"""The rights that each part needs, as (API group, resource, verb); what the code asks for is measured against them."""

CONTROLLER = {
    ("taoemb.io", "encoderrollouts", "list"),
    ("taoemb.io", "encoderrollouts", "patch"),
    ("taoemb.io", "encoderrollouts/status", "patch"),
    ("serving.kserve.io", "inferenceservices", "get"),
    ("serving.kserve.io", "inferenceservices", "patch"),
    ("apps", "deployments", "get"),
    ("", "events", "create"),
    ("coordination.k8s.io", "leases", "create"),
    ("coordination.k8s.io", "leases", "get"),
    ("coordination.k8s.io", "leases", "update"),
}
JOBS = {
    ("trainer.kubeflow.org", "trainjobs", "create"),
    ("trainer.kubeflow.org", "trainjobs", "get"),
    ("trainer.kubeflow.org", "trainjobs", "list"),
    ("trainer.kubeflow.org", "trainjobs", "delete"),
    ("batch", "jobs", "create"),
    ("batch", "jobs", "get"),
    ("batch", "jobs", "delete"),
    ("", "pods", "list"),
    ("", "pods/log", "get"),
}
GATEWAY = {("serving.kserve.io", "inferenceservices", "get")}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def needed(method: str, path: str) -> tuple[str, str, str]:
    """The right that a request to the API server needs."""
    parts = path.partition("?")[0].strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    if rest[0] == "namespaces":
        rest = rest[2:]
    plural, name, *subresource = [*rest, ""][: max(2, len(rest))]
    resource = "/".join([plural, *(part for part in subresource if part)])
    verb = _VERBS.get(method) or ("get" if name else "list")
    return group, resource, verb
