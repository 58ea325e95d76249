"""The chart on a live API server: strict dry run of every render, install, upgrade, rollback, uninstall, rights.

`make test-cluster`. Objects need an API server only. What needs pods is skipped within a minute, with words, where
nodes, images, KServe's controller or Milvus are missing.
"""

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scripts.fetch_crds import crd_folder
from taoemb.serving.kube import Objects
from tests.helm import rights
from tests.helm.cluster_parts import missing_parts, wait_ready
from tests.helm.rendering import CHART, MATRIX, tools
from tests.rollout.live_api import kubeconfig, live_api

pytestmark = pytest.mark.cluster
COMMAND_S = 120
PATIENCE_S = 60
OWN_CRD = "encoderrollouts.taoemb.io"
FORBIDDEN = (("", "secrets", "get"), ("", "pods", "list"), ("serving.kserve.io", "inferenceservices", "delete"))


class Cluster:
    """Helm and kubectl against one API server."""

    def __init__(self, objects: Objects, config: Path) -> None:
        self.objects, self.config = objects, config

    def kubectl(self, *arguments: str, given: str | None = None, config: Path | None = None) -> str:
        """Output of kubectl; fails the test when it fails."""
        return self._run([str(tools().kubectl), f"--kubeconfig={config or self.config}", *arguments], given)

    def helm(self, *arguments: str) -> str:
        """Output of Helm; fails the test when it fails."""
        return self._run([str(tools().helm), f"--kubeconfig={self.config}", *arguments], None)

    def can(self, account: Path, right: tuple[str, str, str], namespace: str, name: str = "") -> bool:
        """Whether the holder of a token may do that."""
        group, resource, verb = right
        plural, _, subresource = resource.partition("/")
        what = f"{plural}.{group}" if group else plural
        more = [f"--subresource={subresource}"] if subresource else []
        command = [str(tools().kubectl), f"--kubeconfig={account}", "auth", "can-i", verb, f"{what}/{name}".rstrip("/")]
        done = subprocess.run([*command, *more, "-n", namespace], capture_output=True, text=True, timeout=60)
        return done.stdout.strip() == "yes"

    def _run(self, command: list[str], given: str | None) -> str:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=COMMAND_S)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with live_api(folder) as objects:
        config = folder / "kubeconfig"
        config.write_text(kubeconfig(objects))
        running = Cluster(objects, config)
        crds = crd_folder()
        if crds is None:
            pytest.skip("the projects' CRDs are not here: run `python scripts/fetch_crds.py` (needs a network)")
        for file in sorted(crds.glob("*/*.yaml")):
            _define(running, file)
        yield running


def _define(cluster: Cluster, file: Path) -> None:
    """Install a CRD unless one of that name is there already."""
    group, _, plural = file.stem.partition("_")
    names = cluster.kubectl("get", "crds", "-o", "name")
    if f"customresourcedefinition.apiextensions.k8s.io/{plural}.{group}" not in names.split():
        cluster.kubectl("apply", "--server-side", "-f", str(file))


@pytest.fixture
def namespace(cluster) -> Iterator[str]:
    name = f"taoemb-chart-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    cluster.kubectl("apply", "-f", "-", given=json.dumps(body))
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("values", MATRIX)
def test_the_api_server_takes_every_render(cluster, namespace, values):
    given = ["-n", namespace, "-f", str(CHART / "ci" / f"{values}-values.yaml"), "--no-hooks"]
    text = cluster.helm("template", "taoemb", str(CHART), *given, "--set", f"assumeApis=true,{_crd(cluster)}")
    cluster.kubectl(
        "apply", "-n", namespace, "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", given=text
    )


def _crd(cluster: Cluster) -> str:
    """The value by which the chart brings its CRD, unless one is there that is not this release's."""
    return f"crds.install={str(OWN_CRD not in cluster.kubectl('get', 'crds', '-o', 'name')).lower()}"


def test_install_upgrade_rollback_uninstall(cluster, namespace):
    values = ["-f", str(CHART / "ci" / "minimal-values.yaml"), "--set", _crd(cluster)]
    chart = ["taoemb", str(CHART), "-n", namespace, *values]
    _install(cluster, namespace, values)
    cluster.helm("upgrade", *chart, "--set", "gateway.replicas=2")
    assert _replicas(cluster, namespace) == 2
    cluster.helm("rollback", "taoemb", "1", "-n", namespace)
    assert _replicas(cluster, namespace) == 1
    cluster.helm("uninstall", "taoemb", "-n", namespace)
    assert OWN_CRD in cluster.kubectl("get", "crds", "-o", "name")


def test_the_controller_becomes_ready(cluster, namespace):
    """It needs neither KServe nor Milvus nor a database before there is a rollout."""
    if not json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]:
        pytest.skip("this API server has no nodes, so no pod starts")
    alone = "encoder.enabled=false,gateway.enabled=false,controller.enabled=true,controller.replicas=1"
    values = ["-f", str(CHART / "ci" / "minimal-values.yaml"), "--set", f"{alone},crds.install=false"]
    _install(cluster, namespace, values)
    _ready_or_skipped(cluster, namespace)
    cluster.helm("uninstall", "taoemb", "-n", namespace)
    leases = json.loads(cluster.kubectl("-n", namespace, "get", "leases", "-o", "json"))["items"]
    assert leases == [], "the Lease goes with the release"


def test_a_search_is_answered(cluster, namespace):
    """The whole chain; the claim must hold a published release, as docs/kubernetes.md puts it there."""
    uri = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["milvus"]["uri"]
    if lacking := missing_parts(cluster.kubectl, uri):
        pytest.skip(f"this cluster lacks {'; '.join(lacking)}")
    _install(cluster, namespace, ["-f", str(CHART / "ci" / "minimal-values.yaml"), "--set", "crds.install=false"])
    _ready_or_skipped(cluster, namespace)
    cluster.helm("test", "taoemb", "-n", namespace)
    cluster.helm("uninstall", "taoemb", "-n", namespace)


def _install(cluster: Cluster, namespace: str, values: list[str]) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "taoemb-events"}}
    body = secret | {"stringData": {"url": "postgresql+psycopg://taoemb@postgres/taoemb"}}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", given=json.dumps(body))
    cluster.helm("install", "taoemb", str(CHART), "-n", namespace, *values)


def _ready_or_skipped(cluster: Cluster, namespace: str) -> None:
    if waiting := wait_ready(cluster.kubectl, namespace, PATIENCE_S):
        pytest.skip("; ".join(waiting))


def _replicas(cluster: Cluster, namespace: str) -> int:
    return json.loads(cluster.kubectl("-n", namespace, "get", "deployment", "taoemb-gateway", "-o", "json"))["spec"][
        "replicas"
    ]


def test_an_upgrade_keeps_the_release_that_was_promoted(cluster, namespace):
    chart = ["taoemb", str(CHART), "-n", namespace, "-f", str(CHART / "ci" / "minimal-values.yaml")]
    cluster.helm("install", *chart, "--set", "gateway.enabled=false,crds.install=false")
    promoted = {"spec": {"predictor": {"model": {"storageUri": "pvc://taoemb-artefacts/releases/second"}}}}
    service = ["-n", namespace, "inferenceservice", "taoemb-encoder"]
    cluster.kubectl("patch", *service, "--type=merge", "-p", json.dumps(promoted))
    cluster.helm("upgrade", *chart, "--set", "gateway.enabled=false,crds.install=false,encoder.maxReplicas=2")
    predictor = json.loads(cluster.kubectl("get", *service, "-o", "json"))["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == "pvc://taoemb-artefacts/releases/second"
    assert predictor["maxReplicas"] == 2
    cluster.helm("uninstall", "taoemb", "-n", namespace)


def test_accounts_may_do_their_work_and_nothing_else(cluster, namespace, tmp_path):
    text = cluster.helm(
        "template", "taoemb", str(CHART), "-n", namespace, "--set", "assumeApis=true,crds.install=false"
    )
    kinds = ("ServiceAccount", "Role", "RoleBinding")
    cluster.kubectl(
        "apply", "-f", "-", given=yaml.safe_dump_all(one for one in yaml.safe_load_all(text) if one["kind"] in kinds)
    )
    work = {
        "taoemb-gateway": rights.GATEWAY,
        "taoemb-rollout-controller": rights.CONTROLLER,
        "taoemb-jobs": rights.JOBS,
    }
    for account, allowed in work.items():
        config = _as(cluster, namespace, account, tmp_path)
        for right in allowed:
            named = {"inferenceservices": "taoemb-encoder", "leases": "taoemb-rollout-controller"}
            name = "" if right[2] in ("create", "list") else named.get(right[1], "")
            assert cluster.can(config, right, namespace, name), (account, right)
        for right in {*FORBIDDEN} - allowed:
            assert not cluster.can(config, right, namespace), (account, right)
    other = ("serving.kserve.io", "inferenceservices", "get")
    assert not cluster.can(_as(cluster, namespace, "taoemb-gateway", tmp_path), other, namespace, "somebody-elses")


def _as(cluster: Cluster, namespace: str, account: str, folder: Path) -> Path:
    """A kubeconfig that holds the account's token and nothing else."""
    token = cluster.kubectl("-n", namespace, "create", "token", account).strip()
    tree = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    tree["users"] = [{"name": entry["name"], "user": {"token": token}} for entry in tree["users"]]
    file = folder / f"{account}.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(tree))
    return file
