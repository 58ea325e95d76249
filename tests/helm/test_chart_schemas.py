"""Nothing in a render is unknown to the API that takes it: CRDs closed, core kinds strict, webhook rules as code."""

import pytest

from tests.helm.rendering import CORE, MATRIX, name_of, objects, of_kind
from tests.helm.schemas import errors
from tests.rollout import kserve_rules


@pytest.mark.parametrize("values", MATRIX)
def test_core_objects_are_valid(values):
    wrong = {name_of(one): errors(one) for one in objects(values) if one["apiVersion"] in CORE}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize("values", MATRIX)
def test_custom_objects_are_valid(values):
    wrong = {name_of(one): errors(one) for one in objects(values) if one["apiVersion"] not in CORE}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_a_misspelt_field_is_found():
    (service,) = of_kind(objects("default"), "InferenceService")
    service["spec"]["predictor"]["minReplica"] = 1
    assert any("minReplica" in line for line in errors(service))
    (deployment, *_) = of_kind(objects("default"), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
    assert any("imagePulPolicy" in line for line in errors(deployment))


@pytest.mark.parametrize("values", MATRIX)
def test_kserve_takes_the_inference_services(values):
    for one in of_kind(objects(values), "InferenceService"):
        assert kserve_rules.broken(one) == []


def test_the_encoder_is_ready_for_a_canary():
    (service,) = of_kind(objects("default"), "InferenceService")
    name = "kserve-container"
    canary = {"name": "r0123456789", "minReplicas": 2, "model": {"name": name, "modelFormat": {"name": "taoemb"}}}
    service["spec"]["canary"] = [{"predictor": canary, "trafficPercent": 10}]
    assert kserve_rules.broken(service) == []
    assert errors(service) == []


@pytest.mark.parametrize("values", MATRIX)
def test_every_model_finds_its_runtime(values):
    found = objects(values)
    formats = {
        one["metadata"]["name"]: {entry["name"] for entry in one["spec"]["supportedModelFormats"]}
        for one in of_kind(found, "ServingRuntime")
    } | {"kserve-huggingfaceserver": {"huggingface"}}
    for one in of_kind(found, "InferenceService"):
        model = one["spec"]["predictor"]["model"]
        assert model["modelFormat"]["name"] in formats[model["runtime"]]
