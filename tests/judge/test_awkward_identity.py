"""Which judge it is: its weights, whatever it is called; a path names nothing, and an adapter is another judge."""

from typing import Any

import pytest

from taoemb.judge.client import JudgeUnavailable
from taoemb.judge.failures import JudgeUnfit
from taoemb.judge.identity import known_among, release_of, same_judge
from tests.judge.clients import client, items
from tests.judge.stub import Stub, serving

BASE = {"id": "judge", "root": "Qwen/Qwen3-8B", "parent": None}


def release(*models: dict[str, Any], asked: str = "judge") -> str:
    return release_of({"object": "list", "data": list(models)}, asked, "http://judge/v1")


PATHS = (
    "/mnt/models",
    "/mnt/models/",
    "./qwen",
    "../qwen",
    "~/models/qwen",
    ".",
    "C:\\models\\qwen",
    "c:/models/qwen",
    "\\\\share\\qwen",
    "models/qwen/8b",
    "s3://bucket/qwen",
    "hf://Qwen/Qwen3-8B",
    "file:///mnt/models",
    "qwen3-8b.Q4_K_M.gguf",
    "Qwen/qwen.safetensors",
    "pytorch_model.bin",
)


@pytest.mark.parametrize("path", PATHS)
def test_awkward_paths_name_no_judge(path: str) -> None:
    with pytest.raises(JudgeUnfit, match=r"by the path .* judge\.release=NAME-AND-VERSION") as failure:
        release(BASE | {"root": path})
    assert repr(path) in str(failure.value)
    with pytest.raises(JudgeUnfit):  # the base of an adapter, and the adapter itself
        release(BASE | {"root": path}, {"id": "lora", "root": "me/lora", "parent": "judge"}, asked="lora")
    with pytest.raises(JudgeUnfit):
        release(BASE, {"id": "lora", "root": path, "parent": "judge"}, asked="lora")


@pytest.mark.parametrize("path", ["/mnt/models", "qwen.gguf"])
def test_awkward_paths_with_a_digest_or_a_name_are_fine(path: str) -> None:
    assert release(BASE | {"root": path, "taoemb_digest": "abc"}) == "abc"
    models = {"data": [BASE | {"root": path}]}
    with serving(Stub(models=lambda: models)) as url:
        with client(url, release="qwen-of-monday") as judge:
            assert judge.grade(["q"], items("t")).unanswered == 0
            assert judge.names == {"qwen-of-monday"}
        with client(url) as judge, pytest.raises(JudgeUnavailable, match="by the path"):
            judge.grade(["q"], items("t"))


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "gpt-4.1-mini", "judge", "meta-llama/Llama-3.1-8B-Instruct", "o3"])
def test_awkward_hub_ids_and_names_are_no_paths(name: str) -> None:
    assert release(BASE | {"root": name}) == name
    assert release({"id": name}, asked="any") == name


def test_awkward_served_names_of_one_model_are_one_judge() -> None:
    other = BASE | {"id": "grader"}
    assert release(BASE, other) == release(BASE, other, asked="grader") == release(other) == "Qwen/Qwen3-8B"


def test_awkward_adapters_are_other_judges() -> None:
    one = {"id": "strict", "root": "me/strict-lora", "parent": "judge"}
    two = {"id": "mild", "root": "me/mild-lora", "parent": "judge"}
    names = [release(BASE, one, two, asked=asked) for asked in ("judge", "strict", "mild")]
    assert names == ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B+me/strict-lora", "Qwen/Qwen3-8B+me/mild-lora"]
    assert not any(same_judge(a, b) for a in names for b in names if a is not b)
    alone = BASE | {"parent": "judge"}  # named as its own parent, or by a parent that is not listed
    assert release(alone) == "Qwen/Qwen3-8B"
    assert release(one | {"parent": "elsewhere"}, asked="strict") == "me/strict-lora"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "lists no model; set judge.release"),
        ([], "lists no model"),
        ({"data": {}}, "lists no model"),
        ({"data": [{"id": ""}, {"id": 4}, "x", None]}, "lists no model"),
        ({"data": [{"id": "a"}, {"id": "b"}]}, "lists 'a', 'b'; set judge.model to one of them"),
    ],
)
def test_awkward_lists_of_models(answer: object, says: str) -> None:
    with pytest.raises(JudgeUnfit, match=says):
        release_of(answer, "judge", "http://judge/v1")


def test_awkward_values_of_a_models_entry_name_nothing() -> None:
    assert release(BASE | {"taoemb_digest": "", "digest": None}) == "Qwen/Qwen3-8B"
    assert release(BASE | {"taoemb_digest": 7, "digest": ["x"]}) == "Qwen/Qwen3-8B"
    assert release({"id": "judge", "root": None, "parent": 3}) == "judge"


@pytest.mark.parametrize("weights", ["Qwen/Qwen3-8B", "d" * 64, "Qwen/Qwen3-8B+me/lora", "größe"])
def test_awkward_names_that_earlier_records_hold(weights: str) -> None:
    earlier = f"judge {weights}"
    assert same_judge(earlier, weights)
    assert known_among([weights], ["another", earlier]) == earlier
    assert known_among([], [weights]) is None
    assert not same_judge("judge another", weights)
    assert not same_judge("my judge of monday", "monday")  # a name with spaces of its own


def test_awkward_two_names_of_one_model_are_not_two_judges_of_a_run() -> None:
    """What evaluation and rollouts compare: a judge named by settings still is what its server says it is."""
    models = {"data": [BASE | {"id": "grader"}]}
    with serving(Stub(models=lambda: models)) as url, client(url, release="mine", model="grader") as judge:
        assert judge.names == {"mine", "Qwen/Qwen3-8B"}
        assert known_among(judge.names, ["judge Qwen/Qwen3-8B"]) is not None
        assert known_among(judge.names, ["Qwen/Qwen3-8B+me/lora"]) is None
