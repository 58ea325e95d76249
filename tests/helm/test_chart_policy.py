"""What a cluster's guards ask of every pod, right, image and network policy in a render."""

from collections.abc import Iterator
from typing import Any

import pytest

from taoemb.serving.inference_service import SIDE
from tests.helm import rights
from tests.helm.rendering import MATRIX, NAMESPACE, Object, name_of, objects, of_kind, pod_templates, selects

# The restricted Pod Security Standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
RIGHTS = {"gateway": rights.GATEWAY, "rollout-controller": rights.CONTROLLER, "jobs": rights.JOBS}


def containers(values: str) -> Iterator[tuple[str, Object, Object]]:
    """Name, container and pod of every container."""
    for name, pod in pod_templates(objects(values)):
        spec = pod["spec"]
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            yield f"{name} {container['name']}", container, spec


@pytest.mark.parametrize("values", MATRIX)
def test_pods_meet_the_restricted_standard(values):
    for name, container, pod in containers(values):
        security = pod.get("securityContext", {}) | container.get("securityContext", {})
        assert security.get("runAsNonRoot") is True, name
        assert security.get("runAsUser", 1) != 0, name
        assert security.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"), name
        assert security.get("allowPrivilegeEscalation") is False, name
        assert security.get("capabilities") == {"drop": ["ALL"]}, name
        assert not security.get("privileged"), name
        assert not any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")), name
        assert all(set(volume) - {"name"} <= VOLUMES for volume in pod.get("volumes", ())), name
        assert not any("hostPort" in port for port in container.get("ports", ())), name


@pytest.mark.parametrize("values", MATRIX)
def test_only_volumes_can_be_written(values):
    for name, container, pod in containers(values):
        assert container["securityContext"].get("readOnlyRootFilesystem") is True, name
        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod.get("volumes", ())}, name


@pytest.mark.parametrize("values", MATRIX)
def test_every_container_says_what_it_needs_at_most(values):
    for name, container, _ in containers(values):
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys(), name


@pytest.mark.parametrize("values", MATRIX)
def test_images_are_pinned(values):
    for name, container, _ in containers(values):
        image = container.get("image")
        if image is None:  # KServe's own runtime names it
            assert "kserve-container" in name
            continue
        tag = image.rpartition(":")[2]
        assert "@sha256:" in image or (tag not in ("", "latest") and "/" not in tag), name


@pytest.mark.parametrize("values", MATRIX)
def test_secrets_are_mounted_and_nowhere_else(values):
    found = objects(values)
    assert of_kind(found, "Secret") == []
    for name, container, _ in containers(values):
        assert "envFrom" not in container, name
        assert not any("valueFrom" in variable for variable in container.get("env", ())), name


@pytest.mark.parametrize("values", MATRIX)
def test_only_those_who_ask_the_api_get_a_token(values):
    found = objects(values)
    accounts = {one["metadata"]["name"]: one for one in of_kind(found, "ServiceAccount")}
    bound = {
        subject["name"] for one in of_kind(found, "RoleBinding", "ClusterRoleBinding") for subject in one["subjects"]
    }
    for name, pod in pod_templates(found):
        account = pod["spec"].get("serviceAccountName")
        silent = pod["spec"].get("automountServiceAccountToken") is False
        if account is None:
            assert silent, name
        else:
            off = accounts[account].get("automountServiceAccountToken") is False
            assert (silent or off) == (account not in bound), name


@pytest.mark.parametrize("values", [*MATRIX, "cluster-wide"])
def test_rights_are_the_few_that_are_used(values):
    more = ("--set", "controller.scope=cluster") if values == "cluster-wide" else ()
    found = objects("default" if more else values, *more)
    roles = {(one["kind"], one["metadata"]["name"]): one["rules"] for one in of_kind(found, "Role", "ClusterRole")}
    for rules in roles.values():
        assert "*" not in str(rules)
    granted: dict[str, set[tuple[str, str, str]]] = {}
    for binding in of_kind(found, "RoleBinding", "ClusterRoleBinding"):
        reference = binding["roleRef"]
        for subject in binding["subjects"]:
            granted.setdefault(subject["name"], set()).update(_rights(roles[reference["kind"], reference["name"]]))
    for account, found_rights in granted.items():
        part = account.removeprefix("shop-search-").removeprefix("taoemb-")
        if part in RIGHTS:
            assert found_rights == RIGHTS[part]
        else:
            assert {resource for _, resource, _ in found_rights - rights.JOBS} == {"encoderrollouts"}
            assert found_rights >= rights.JOBS


def _rights(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("values", MATRIX)
def test_the_gateway_may_read_one_object_only(values):
    for one in of_kind(objects(values), "Role"):
        if one["metadata"]["name"].endswith("-gateway"):
            assert [len(rule["resourceNames"]) for rule in one["rules"]] == [1]


@pytest.mark.parametrize("values", MATRIX)
def test_selectors_select_something(values):
    found = objects(values)
    pods = [pod["metadata"]["labels"] for _, pod in pod_templates(found)]
    for one in of_kind(found, "Service"):
        assert any(selects({"matchLabels": one["spec"]["selector"]}, labels) for labels in pods), name_of(one)
    for one in of_kind(found, "Deployment"):
        assert selects(one["spec"]["selector"], one["spec"]["template"]["metadata"]["labels"]), name_of(one)
    for one in of_kind(found, "PodMonitor"):
        assert any(selects(one["spec"]["selector"], labels) for labels in pods), name_of(one)
    arms = [*pods, *(labels | {SIDE: "b"} for labels in pods)]
    for one in of_kind(found, "PodDisruptionBudget"):
        assert any(selects(one["spec"]["selector"], labels) for labels in arms), name_of(one)
    for one in of_kind(found, "NetworkPolicy"):
        assert any(selects(one["spec"]["podSelector"], labels) for labels in pods), name_of(one)


@pytest.mark.parametrize("values", MATRIX)
def test_each_arm_has_a_budget_of_its_own_and_no_pod_has_two(values):
    """Kubernetes evicts no pod at all that two budgets select."""
    found = objects(values)
    budgets = [one["spec"]["selector"] for one in of_kind(found, "PodDisruptionBudget")]
    for name, pod in pod_templates(found):
        for side in ({}, {SIDE: "a"}, {SIDE: "b"}):
            chosen = [one for one in budgets if selects(one, pod["metadata"]["labels"] | side)]
            assert len(chosen) <= 1, name
            standard = "-encoder" in name and values in ("default", "external", "gpu")
            assert chosen or not standard, f"{name} {side}"


@pytest.mark.parametrize("values", [values for values in MATRIX if values != "minimal"])
def test_every_serving_pod_is_denied_by_default_and_reached_by_name(values):
    found = objects(values)
    policies = [one["spec"] for one in of_kind(found, "NetworkPolicy")]
    denied = [one for one in policies if one["policyTypes"] == ["Ingress", "Egress"]]
    assert all("ingress" not in one and "egress" not in one for one in denied)
    for name, pod in pod_templates(found):
        if "TrainingRuntime" in name:
            continue
        labels = pod["metadata"]["labels"]
        assert any(selects(one["podSelector"], labels) for one in denied), name
        ports = {
            port["containerPort"] for container in pod["spec"]["containers"] for port in container.get("ports", ())
        }
        open_ports = {
            port["port"]
            for one in policies
            if "ingress" in one and selects(one["podSelector"], labels)
            for rule in one["ingress"]
            for port in rule["ports"]
        }
        assert ports <= open_ports, name


@pytest.mark.parametrize("values", [values for values in MATRIX if values != "minimal"])
def test_a_flow_has_two_ends(values):
    """What one pod of the chart may send, the other lets in, on a port that it listens on; and the other way round."""
    found = objects(values)
    policies = [one["spec"] for one in of_kind(found, "NetworkPolicy")]
    pods = {name: pod for name, pod in pod_templates(found) if "TrainingRuntime" not in name}
    flows = set()
    for sender, receiver in ((one, other) for one in pods for other in pods if one != other):
        labels = pods[sender]["metadata"]["labels"], pods[receiver]["metadata"]["labels"]
        out = _allowed(policies, "egress", "to", *labels) & _listens(pods[receiver])
        into = _allowed(policies, "ingress", "from", *reversed(labels)) & _listens(pods[receiver])
        anybody = receiver.endswith("-gateway") and "Deployment" in receiver
        of_the_cluster = values == "gpu" and sender.endswith("-controller")  # it watches encoders of all namespaces
        assert out == into or (anybody and out <= into) or (of_the_cluster and into <= out), (sender, receiver)
        flows |= {(sender.split()[-1], receiver.split()[-1])} if out else set()
    if values == "default":
        assert flows == {
            ("taoemb-gateway", "taoemb-encoder"),
            ("taoemb-rollout-controller", "taoemb-encoder"),
            ("taoemb-test-search", "taoemb-gateway"),
            ("taoemb-test-search", "taoemb-encoder"),
        }


def _listens(pod: Object) -> set[int]:
    return {port["containerPort"] for container in pod["spec"]["containers"] for port in container.get("ports", ())}


def _allowed(policies: list[Object], side: str, peers: str, mine: Object, other: Object) -> set[int]:
    """Ports that a pod may use with another one, as far as its own policies name that other one."""
    return {
        port["port"]
        for policy in policies
        if selects(policy["podSelector"], mine)
        for rule in policy.get(side, ())
        if any(_is_peer(peer, other) for peer in rule.get(peers, ()))
        for port in rule["ports"]
    }


def _is_peer(peer: Object, labels: Object) -> bool:
    """Whether a pod of the chart's own namespace is meant."""
    here = {"kubernetes.io/metadata.name": NAMESPACE}
    return selects(peer.get("namespaceSelector", {}), here) and selects(peer.get("podSelector", {}), labels)


@pytest.mark.parametrize("values", MATRIX)
def test_ports_that_are_named_exist(values):
    found = objects(values)
    named = {
        name: {
            port["name"]: port["containerPort"]
            for container in pod["spec"]["containers"]
            for port in container.get("ports", ())
        }
        for name, pod in pod_templates(found)
    }
    labels = {name: pod["metadata"]["labels"] for name, pod in pod_templates(found)}
    for one in of_kind(found, "Service"):
        selected = [name for name in named if selects({"matchLabels": one["spec"]["selector"]}, labels[name])]
        for port in one["spec"]["ports"]:
            assert all(port["targetPort"] in named[name] for name in selected), name_of(one)
    for one in of_kind(found, "PodMonitor"):
        selected = [name for name in named if selects(one["spec"]["selector"], labels[name])]
        for endpoint in one["spec"]["podMetricsEndpoints"]:
            assert all(endpoint["port"] in named[name] for name in selected), name_of(one)
    for name, container, _ in containers(values):
        own = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            assert port is None or port in own or port in own.values(), name


@pytest.mark.parametrize("values", MATRIX)
def test_mounted_objects_are_made_or_named_in_the_values(values):
    found = objects(values)
    made = {(one["kind"], one["metadata"]["name"]) for one in found}
    for name, pod in pod_templates(found):
        for volume in pod["spec"].get("volumes", ()):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in made, name
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in made, name
