"""What the chart finds out from the cluster: which APIs there are, and which release serves."""

import base64
import subprocess

import pytest
import yaml

from taoemb.serving.gateway.page_ids import MIN_KEY
from tests.helm.api_stub import serving
from tests.helm.rendering import CHART, NAMESPACE, RELEASE, of_kind, tools

KSERVE = {
    "serving.kserve.io/v1beta1": {"InferenceService": "inferenceservices"},
    "serving.kserve.io/v1alpha1": {"ServingRuntime": "servingruntimes"},
}
MONITORING = {"monitoring.coreos.com/v1": {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"}}
SERVICE = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/taoemb-encoder"
PROMOTED = "pvc://taoemb-artefacts/releases/second"


def asked(folder, kinds, objects, *more: str) -> list[dict]:
    """The render of Helm asking an API server of these kinds and objects."""
    config = folder / "kubeconfig"
    with serving(kinds, objects) as server:
        config.write_text(server.kubeconfig())
        where = ["--namespace", NAMESPACE, f"--kubeconfig={config}", "--dry-run=server", "--disable-openapi-validation"]
        command = [str(tools().helm), "template", RELEASE, str(CHART), *where, *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr + str(server.asked)
    return [tree for tree in yaml.safe_load_all(done.stdout) if tree]


def storage_uri(found: list[dict]) -> str:
    (service,) = of_kind(found, "InferenceService")
    return service["spec"]["predictor"]["model"]["storageUri"]


def running(uri: str) -> dict:
    spec = {"predictor": {"name": "r0123456789", "model": {"storageUri": uri}}}
    owner = {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": NAMESPACE}
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    metadata = {"name": "taoemb-encoder", "namespace": NAMESPACE, "labels": labels, "annotations": owner}
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": metadata, "spec": spec}


def test_a_promoted_release_stays(tmp_path):
    assert storage_uri(asked(tmp_path, KSERVE, {SERVICE: running(PROMOTED)})) == PROMOTED


def test_the_first_release_is_the_values(tmp_path):
    assert storage_uri(asked(tmp_path, KSERVE, {})) == "pvc://taoemb-artefacts/releases/first"


def test_the_values_win_when_they_shall(tmp_path):
    more = ("--set", "encoder.keepLive=false")
    assert storage_uri(asked(tmp_path, KSERVE, {SERVICE: running(PROMOTED)}, *more)).endswith("releases/first")


def test_monitors_are_made_where_their_operator_is(tmp_path):
    assert of_kind(asked(tmp_path, KSERVE, {}), "PodMonitor", "PrometheusRule", "TrainingRuntime") == []
    found = asked(tmp_path, KSERVE | MONITORING, {})
    assert len(of_kind(found, "PodMonitor")) == 3
    assert len(of_kind(found, "PrometheusRule")) == 1


DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/encoderrollouts.taoemb.io"


def definition(annotations: dict[str, str]) -> dict:
    labels = {"app.kubernetes.io/managed-by": "Helm"} if annotations else {}
    metadata = {"name": "encoderrollouts.taoemb.io", "labels": labels, "annotations": annotations}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata}


def shared_objects(found: list[dict]) -> list[dict]:
    names = ("encoderrollouts.", "taoemb-encoderrollouts")
    return [one for one in found if one["metadata"]["name"].startswith(names)]


@pytest.mark.parametrize(
    ("annotations", "rendered"),
    [
        ({"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": NAMESPACE}, True),
        ({"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": "other"}, False),
        ({"meta.helm.sh/release-name": "first", "meta.helm.sh/release-namespace": NAMESPACE}, False),
        ({}, False),
    ],
)
def test_the_definition_belongs_to_the_release_that_brought_it(tmp_path, annotations, rendered):
    found = asked(tmp_path, KSERVE, {DEFINITION: definition(annotations)})
    assert len(shared_objects(found)) == (3 if rendered else 0)


OWNED = {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": NAMESPACE}
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/taoemb-rollout-controller"


@pytest.mark.parametrize(("owner", "rendered"), [(OWNED, True), ({}, False), (None, True)])
def test_the_lease_goes_with_the_release_unless_a_controller_made_it(tmp_path, owner, rendered):
    """Helm refuses to take over what it did not make, so one of an older chart stays as it is."""
    metadata = {"name": "taoemb-rollout-controller", "namespace": NAMESPACE, "annotations": owner}
    metadata["labels"] = {"app.kubernetes.io/managed-by": "Helm"} if owner else {}
    there = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
    found = of_kind(asked(tmp_path, KSERVE, {} if owner is None else {LEASE: there}), "Lease")
    assert len(found) == rendered
    assert all("spec" not in one and "annotations" not in one["metadata"] for one in found), "whoever leads writes it"


def test_two_releases_share_the_definition_and_nothing_else(tmp_path):
    """Another namespace and another name: no object of the second release has the name of one of the first."""
    names = []
    for release, namespace in ((RELEASE, NAMESPACE), ("other", "elsewhere")):
        command = [str(tools().helm), "template", release, str(CHART), "--namespace", namespace]
        more = ["--set", "assumeApis=true", "--set", "controller.scope=cluster", "--kubeconfig=/dev/null"]
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found = [tree for tree in yaml.safe_load_all(done.stdout) if tree]
        names.append({(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in found})
    first, second = names
    assert {name for _, _, name in first & second} == {
        "encoderrollouts.taoemb.io",
        "taoemb-encoderrollouts-edit",
        "taoemb-encoderrollouts-view",
    }


def test_the_first_release_brings_the_definition_with_its_rights(tmp_path):
    found = asked(tmp_path, KSERVE, {})
    kept = [one["metadata"]["annotations"] for one in shared_objects(found)]
    assert kept == [{"helm.sh/resource-policy": "keep"}] * 3


PAGES = f"/api/v1/namespaces/{NAMESPACE}/secrets/taoemb-gateway-pages"


def page_key(found: list[dict]) -> str:
    (secret,) = of_kind(found, "Secret")
    return base64.b64decode(secret["data"]["key"]).decode()


def test_the_key_of_pages_is_made_once(tmp_path):
    first, other = (page_key(asked(tmp_path, KSERVE, {})) for _ in range(2))
    assert len(first) >= MIN_KEY
    assert first != other, "chance makes it"
    there = running("")["metadata"] | {"name": "taoemb-gateway-pages"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": there,
        "data": {"key": base64.b64encode(b"old").decode()},
    }
    assert page_key(asked(tmp_path, KSERVE, {PAGES: secret})) == "old"
    secret["metadata"] = {"name": "taoemb-gateway-pages", "namespace": NAMESPACE}
    assert of_kind(asked(tmp_path, KSERVE, {PAGES: secret}), "Secret") == [], "somebody else made it"


def test_a_key_of_pages_of_ones_own_is_left_alone(tmp_path):
    found = asked(tmp_path, KSERVE, {}, "--set", "gateway.pageKeySecret=mine")
    assert of_kind(found, "Secret") == []
    (gateway,) = [one for one in of_kind(found, "Deployment") if one["metadata"]["name"] == "taoemb-gateway"]
    volumes = {one["name"]: one for one in gateway["spec"]["template"]["spec"]["volumes"]}
    assert volumes["pages"]["secret"]["secretName"] == "mine"
