"""The custom resource takes what the library's Plan takes and nothing else, and Kubernetes can bear its schema."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.controller.resource import camel, new_resource, parse_resource, plan_from_spec, plan_to_spec, snake
from taoemb.rollout.plan import Guardrail, Plan, SliceRule, Step
from tests.rollout.crd_rules import OWN, encoder_rollouts

ROOT = Path(__file__).resolve().parents[2]
RELEASE = Candidate("a" * 64, "s3://models/a")
DIALECT = ("$ref", "anyOf", "oneOf", "allOf", "not", "title", "additionalProperties", "const")

SHARES = st.lists(st.integers(1, 99), min_size=1, max_size=6, unique=True).map(sorted)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=30)
NAMES = WORDS.filter(lambda name: name != "all" and "*" not in name)
RULES = st.lists(
    st.builds(SliceRule, name=NAMES, pattern=st.just("^not ")), max_size=3, unique_by=lambda rule: rule.name
).map(tuple)


def plans_with(slices: tuple[SliceRule, ...]) -> st.SearchStrategy[Plan]:
    guarded = st.sampled_from(["all", "*", *(rule.name for rule in slices)])
    guardrail = st.builds(Guardrail, metric=st.just("latency_ms"), slice=guarded, margin=st.floats(0, 9))
    return st.builds(
        Plan,
        steps=SHARES.map(lambda shares: tuple(Step(percent=share, min_units=share) for share in shares)),
        metric=st.sampled_from(["item_goodrate", "click_rate"]),
        goal=st.sampled_from(["superiority", "non-inferiority"]),
        margin=st.floats(0, 1),
        guardrails=st.lists(guardrail, max_size=3).map(tuple),
        alpha=st.floats(0.001, 0.49),
        slices=st.just(slices),
        catalogue=st.none() | st.just(Path("/data/shop")),
        on_inconclusive=st.sampled_from(["rollback", "hold"]),
    )


PLANS = RULES.flatmap(plans_with)
NEGATION = {"name": "negation", "pattern": "without"}
GUARDED = {"metric": "ndcg", "slice": "negation", "margin": 0}


def resource(plan: dict | None = None, **spec: object) -> dict:
    body = new_resource("search", "first", "encoder", RELEASE, Plan())
    body["spec"] |= spec
    if plan is not None:
        body["spec"]["plan"] = plan
    return body


def refused(body: dict, old: dict | None = None) -> list[str]:
    schema = encoder_rollouts()
    body = schema.defaulted(body)
    return schema.errors(body) or schema.broken_rules(body, old and schema.defaulted(old))


def test_the_file_is_what_the_script_writes():
    done = subprocess.run(
        [sys.executable, "scripts/encoderrollout_crd.py", "--check"], cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0, "run python scripts/encoderrollout_crd.py"


def test_what_is_left_out_has_the_plan_s_defaults():
    body = encoder_rollouts().defaulted(
        {"spec": {"inferenceService": "encoder", "candidate": {"release": "a" * 64, "storageUri": "s3://a"}}}
    )
    assert "plan" in body["spec"]
    assert plan_from_spec(body["spec"]["plan"], "plan") == Plan()
    short = encoder_rollouts().defaulted(resource({"steps": [{"percent": 7}]}))["spec"]["plan"]
    assert plan_from_spec(short, "plan") == Plan(steps=(Step(percent=7),))


@settings(deadline=None)
@given(PLANS)
def test_every_plan_survives_the_resource(plan):
    body = new_resource("search", "first", "encoder", RELEASE, plan)
    assert refused(body) == []
    body["metadata"] |= {"uid": "u" * 36, "generation": 3}
    assert parse_resource(encoder_rollouts().defaulted(body)).plan() == plan


def numbers() -> list[tuple[str, float]]:
    """Each number of a plan at and around its bounds."""
    spec = encoder_rollouts().tree["properties"]["spec"]["properties"]["plan"]["properties"]
    found = []
    for name, entry in spec.items():
        for bound in (entry.get("minimum"), entry.get("maximum")):
            if bound is not None:
                found += [(name, value) for value in (bound - 1, bound, bound + 1, bound + 0.25)]
    return found


@pytest.mark.parametrize(("name", "value"), numbers())
def test_a_number_is_in_bounds_for_both_or_for_neither(name, value):
    tree = {**plan_to_spec(Plan()), name: value}
    try:
        plan_from_spec(tree, "plan")
        taken = True
    except InputError:
        taken = False
    assert (refused(resource(tree)) == []) == taken


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"steps": [{"percent": 5}, {"percent": 5}]}, "percent must grow"),
        ({"steps": [{"percent": 1}, {"percent": 50}, {"percent": 25}]}, "percent must grow"),
        ({"steps": []}, "less than 1 item"),
        ({"steps": [{"percent": 0}]}, "less than the minimum"),
        ({"steps": [{"percent": 101}]}, "greater than the maximum"),
        ({"steps": [{"percent": 0.5}]}, "integer"),
        ({"steps": [{"percent": share} for share in range(1, 22)]}, "more than 20"),
        ({"metric": "fame"}, "fame"),
        ({"design": "interleaving"}, "go together"),
        ({"metric": "preference"}, "go together"),
        ({"minSliceUnit": 3}, "minSliceUnit"),
        ({"steps": [{"percent": 50}, {"percent": 100}]}, "no control to compare with"),
        ({"slices": [NEGATION, NEGATION]}, "two have the same name"),
        ({"slices": [NEGATION | {"name": "all"}]}, "neither all"),
        ({"slices": [NEGATION | {"name": "n*"}]}, "neither all"),
        (
            {"slices": [NEGATION], "guardrails": [{"metric": "ndcg", "slice": "negations", "margin": 0}]},
            "neither slices",
        ),
        ({"guardrails": [{"metric": "ndcg", "slice": "negation", "margin": 0}]}, "neither slices"),
    ],
)
def test_plans_that_are_refused(plan, message):
    found = refused(resource(plan))
    assert found
    assert message in found[0]


@pytest.mark.parametrize(
    "plan",
    [
        {"design": "interleaving", "metric": "preference"},
        {"design": "interleaving", "metric": "preference", "steps": [{"percent": 100}]},
        {"slices": [NEGATION], "guardrails": [GUARDED]},
        {"sliceQueries": "/data/queries", "guardrails": [{"metric": "ndcg", "slice": "long-tail", "margin": 0}]},
        {"guardrails": [{"metric": "ndcg", "margin": 0}, {"metric": "gsb", "slice": "category:*", "margin": 0}]},
    ],
)
def test_plans_that_are_taken(plan):
    assert refused(resource(plan)) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"inferenceService": "Encoder"},
        {"inferenceService": "e" * 41},
        {"candidate": {"release": "a" * 63, "storageUri": "s3://a"}},
        {"candidate": {"release": "a" * 64}},
        {"request": {"action": "pause", "reason": "later"}},
        {"request": {"action": "promote", "reason": ""}},
        {"suspend": True},
    ],
)
def test_specs_that_are_refused(spec):
    assert refused(resource(**spec))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec.update(inferenceService="other"), "inferenceService is part"),
        (lambda spec: spec["candidate"].update(storageUri="s3://b"), "candidate is part"),
        (lambda spec: spec["plan"].update(alpha=0.4), "plan is part"),
        (lambda spec: spec.pop("plan"), None),
        (lambda spec: spec.update(request={"action": "rollback", "reason": "complaints"}), None),
    ],
)
def test_only_the_request_may_change(change, message):
    old = resource()
    new = copy.deepcopy(old)
    change(new["spec"])
    found = refused(new, old)
    assert found == [] if message is None else message in found[0]


def walk(node: dict, path: str = ""):
    yield path, node
    for name, entry in node.get("properties", {}).items():
        yield from walk(entry, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")


def test_the_schema_is_structural_and_bounded():
    tree = encoder_rollouts().tree
    for path, node in walk(tree):
        assert node.get("type"), path
        assert not set(DIALECT).intersection(node), path
        if path.startswith(".spec"):
            assert node["type"] != "array" or "maxItems" in node, f"{path}: CEL rules need a bound"
            assert node["type"] != "string" or "enum" in node or "maxLength" in node, path
    rules = [rule["rule"] for _, node in walk(tree) for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) == 9


def test_the_definition_itself_is_taken_by_an_api_server():
    assert encoder_rollouts().broken_defaults() == []


def test_a_rule_that_needs_a_nested_default_is_found():
    schema = copy.copy(encoder_rollouts())
    rule = {"rule": "self.goal == 'superiority'", "message": "only superiority"}
    plan = schema.tree["properties"]["spec"]["properties"]["plan"]
    careless = {**plan, "x-kubernetes-validations": [rule]}
    schema.tree = {"type": "object", "properties": {"plan": careless}}
    (found,) = schema.broken_defaults()
    assert found.startswith(".plan.default: no such")


@pytest.mark.parametrize("missing", ["design", "metric"])
def test_rules_hold_for_a_plan_whose_defaults_are_not_filled_in(missing):
    plan = {"design": "interleaving", "metric": "preference"}
    del plan[missing]
    assert encoder_rollouts().broken_rules(resource(plan)) == ["design interleaving and metric preference go together"]
    assert encoder_rollouts().broken_rules(resource({})) == []


def test_what_kubectl_shows():
    (version,) = yaml.safe_load(OWN.read_text())["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    columns = [column["name"] for column in version["additionalPrinterColumns"]]
    assert columns == ["Phase", "Step", "Percent", "Units", "Outcome", "Service", "Age", "Reason"]
    conditions = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@pytest.mark.parametrize("name", [*Plan.model_fields, *Step.model_fields, *Guardrail.model_fields])
def test_names_go_both_ways(name):
    assert snake(camel(name)) == name


def test_shares_that_kserve_cannot_give_are_refused():
    with pytest.raises(InputError, match="whole percents"):
        plan_to_spec(Plan(steps=(Step(percent=0.5),)))
