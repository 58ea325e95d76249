"""The chart renders: lint, each file of values, the goldens, and the lines that say what is wrong."""

import re

import pytest
import yaml

from scripts.chart_readme import written
from tests.helm.rendering import CHART, MATRIX, ROOT, helm, objects, of_kind, template
from tests.helm.write_golden import GOLDEN, golden


def test_the_five_ways_to_install_are_there():
    assert MATRIX == ["default", "external", "gpu", "knative", "minimal"]


@pytest.mark.parametrize("values", MATRIX)
def test_lint_is_strict_and_silent(values):
    file = str(CHART / "ci" / f"{values}-values.yaml")
    done = helm("lint", "--strict", str(CHART), "--values", file, "--set", "assumeApis=true")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", MATRIX)
def test_the_render_is_the_golden_one(values):
    expected = (GOLDEN / f"{values}.yaml").read_text(encoding="utf-8")
    assert golden(values) == expected, "look at the difference, then `make golden`"


@pytest.mark.parametrize("values", MATRIX)
def test_no_object_is_made_twice(values):
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects(values)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("gateway.replicsa=2", "additional properties 'replicsa' not allowed"),
        ("settings.gateway.kk=2", "additional properties 'kk' not allowed"),
        ("settings.milvus.index=FAISS", "settings/milvus/index"),
        ("images.serving.tag=latest", "images/serving/tag"),
        ("images.serving.digest=sha256:12", "images/serving/digest"),
        ("encoder.resources.limits.cpu=many", "encoder/resources/limits/cpu"),
        ("encoder.mode=Serverless", "encoder/mode"),
        ("milvus.operator.image=milvusdb/milvus:latest", "milvus/operator/image"),
        ("fullname=2fast", "fullname"),
    ],
)
def test_wrong_values_are_refused(given, said):
    done = template("default", "--set", given)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("encoder.enabled=false", "the gateway needs the encoder"),
        ("judge.mode=external", "judge.url: give the base URL"),
        ("gateway.httpRoute.enabled=true", "name the Gateway that carries the route"),
        ("artefacts.type=s3", "artefacts.s3.uri: give s3://"),
        ("encoder.minReplicas=9", "more than encoder.maxReplicas"),
        ("encoder.scaleMetric=rps", "only Knative counts that"),
        ("milvus.uri=", "milvus.uri: give the address"),
        ("milvus.mode=operator,milvus.tokenSecret=x", "the Milvus Operator sets no password"),
        ("gateway.service.type=LoadBalancer", "networkPolicies.clients lets only pods of the cluster in"),
        ("gateway.service.type=NodePort", "networkPolicies.clients lets only pods of the cluster in"),
    ],
)
def test_values_that_do_not_fit_together_are_refused_in_one_line(given, said):
    done = template("default", "--set", given)
    assert done.returncode != 0
    assert len([line for line in done.stderr.splitlines() if said in line]) == 1


def test_a_missing_api_is_named_with_the_way_out():
    done = template("gpu", assume=False)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "the cluster lacks" in line]
    for part in ("KServe", "the Milvus Operator", "HTTPRoute", "Kubeflow Trainer v2", "the Prometheus Operator"):
        assert part in line


def test_operators_that_are_not_there_cost_only_what_they_would_do():
    kserve = "serving.kserve.io/v1beta1/InferenceService"
    done = template("default", "--api-versions", kserve, assume=False)
    assert done.returncode == 0, done.stderr
    kinds = {one["kind"] for one in yaml.safe_load_all(done.stdout) if one}
    assert "InferenceService" in kinds
    assert not kinds & {"PodMonitor", "PrometheusRule", "TrainingRuntime"}


@pytest.mark.parametrize("name", ["1shop", "a" * 53])
def test_release_names_become_names_of_services(name):
    done = helm("template", name, str(CHART), "--set", "assumeApis=true")
    if done.returncode:
        assert "can't be the name of a Service" in done.stderr
        return
    for one in of_kind([tree for tree in yaml.safe_load_all(done.stdout) if tree], "InferenceService", "Service"):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", one["metadata"]["name"])


def test_the_page_and_the_schema_are_what_the_values_say():
    for path, text in written().items():
        assert path.read_text(encoding="utf-8") == text, "run `python scripts/chart_readme.py`"


def test_the_chart_carries_the_crd_of_the_manifests():
    own = (CHART / "files" / "crds" / "encoderrollout.yaml").read_text(encoding="utf-8")
    assert own == (ROOT / "manifests" / "crds" / "encoderrollout.yaml").read_text(encoding="utf-8")
    (crd,) = of_kind(objects("default"), "CustomResourceDefinition")
    assert crd["spec"] == yaml.safe_load(own)["spec"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
