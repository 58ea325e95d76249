"""`taoemb rollout lint` refuses what would be refused later, in one line, and takes what would be taken."""

import pytest
import yaml

from taoemb.cli.main import main
from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.controller.resource import new_resource
from taoemb.rollout.lint import lint_file
from taoemb.rollout.plan import Plan
from tests.rollout.crd_rules import encoder_rollouts


def manifest(**spec) -> dict:
    body = new_resource("search", "first", "encoder", Candidate("a" * 64, "s3://models/a"), Plan())
    body["spec"] |= spec
    return body


def written(folder, text: str):
    file = folder / "file.yaml"
    file.write_text(text)
    return file


def test_plans_and_manifests_that_work(tmp_path):
    assert lint_file(written(tmp_path, "steps: [{percent: 1}, {percent: 50}]")) == "a plan of 2 steps"
    assert lint_file(written(tmp_path, "")) == f"a plan of {len(Plan().steps)} steps"
    both = yaml.safe_dump_all([manifest(paused=True), {"kind": "ConfigMap"}, None])
    assert lint_file(written(tmp_path, both)) == "1 EncoderRollouts, 1 other objects that were not looked at"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: []", "steps"),
        ("steps: [{percent: 5}, {percent: 5}]", "steps"),
        ("metric: nonsense", "metric"),
        ("alpha: 0.1\nalpha: 0.2", "stands twice"),
        ("a: [", "not YAML"),
        ("--- {}\n--- {}", "2 documents"),
        (yaml.safe_dump(manifest(inferenceService="Encoder_1")), "spec.inferenceService"),
        (yaml.safe_dump(manifest(candidate={"release": "abc", "storageUri": "s3://a"})), "spec.candidate.release"),
        (yaml.safe_dump(manifest(candidate={"release": "a" * 64})), "storageUri"),
        (yaml.safe_dump(manifest(plan={"steps": [{"percent": 1.5}]})), "whole percents"),
        (yaml.safe_dump(manifest(plan={"minSliceUnit": 3})), "min_slice_unit"),
        (yaml.safe_dump(manifest(plann={})), r"spec\.plann: no such field"),
        (yaml.safe_dump(manifest() | {"apiVersion": "taoemb.io/v9"}), "apiVersion"),
        (yaml.safe_dump({"kind": "EncoderRollout", "apiVersion": "taoemb.io/v1alpha1"}), "spec is needed"),
    ],
)
def test_what_can_not_work_is_one_line_with_the_file(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        lint_file(written(tmp_path, text))
    assert "file.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_fields_are_those_of_the_definition():
    spec = encoder_rollouts().tree["properties"]["spec"]["properties"]
    from taoemb.rollout import lint

    assert set(spec) == lint._SPEC


def test_the_command(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["rollout", "lint", str(written(tmp_path, "alpha: 7"))])
    assert left.value.code == 2
    assert "alpha" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["rollout", "lint", str(tmp_path / "none.yaml")])
    assert left.value.code == 2
    with pytest.raises(SystemExit) as left:
        main(["rollout", "lint", str(written(tmp_path, "alpha: 0.01"))])
    assert left.value.code == 0
