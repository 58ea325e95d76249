import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.config import GateConfig
from taoemb.errors import InputError
from taoemb.evaluation.gate import check


def difference(low, high, queries=100):
    return {"value": (low + high) / 2, "low": low, "high": high, "queries": queries}


def evaluation(**slices):
    return {"differences": {"goodrate@10": slices}}


def test_passes_when_the_interval_stays_above_the_margin():
    result = check(evaluation(all=difference(-0.01, 0.05)), GateConfig(margin=0.02))
    assert result.passed
    assert result.failures == []
    assert result.reasons == [
        "goodrate@10: +0.0200 [−0.0100, +0.0500] against the baseline on 100 queries; "
        "passes: the interval's lower end must be at least −0.02"
    ]


@pytest.mark.parametrize(
    ("low", "high", "config", "passes"),
    [
        (0.0, 0.0, {}, True),  # the same release again
        (-0.001, 0.1, {"margin": 0.0}, False),
        (-0.001, 0.1, {}, True),  # a little worse than nothing is within the default margin
        (-0.03, 0.1, {"margin": 0.02}, False),
        (0.0, 0.1, {"require_gain": True}, False),
        (0.001, 0.1, {"require_gain": True}, True),
        (-0.01, 0.1, {"margin": 0.02, "require_gain": True}, False),
        (0.01, 0.1, {"min_queries": 101}, False),
    ],
)
def test_main_rule(low, high, config, passes):
    assert check(evaluation(all=difference(low, high)), GateConfig(**config)).passed is passes


def test_a_slice_that_surely_falls_fails_the_gate():
    result = check(evaluation(all=difference(0.01, 0.02), negation=difference(-0.2, -0.06)), GateConfig())
    assert not result.passed
    assert "slice negation" in result.reasons[1]
    assert "below −0.05" in result.reasons[1]
    assert result.failures == [result.reasons[1]]


def test_a_slice_that_may_fall_or_is_too_small_does_not():
    slices = {"negation": difference(-0.2, -0.04), "tiny": difference(-0.9, -0.5, queries=19)}
    result = check(evaluation(all=difference(0.01, 0.02), **slices), GateConfig())
    assert result.passed
    assert result.reasons[1:] == [
        "1 slice has no interval wholly below −0.05; passes",
        "not checked, fewer than 20 queries: tiny (19)",
    ]


def test_a_metric_without_a_defined_query_fails():
    result = check({"differences": {"goodrate@10": {}}}, GateConfig())
    assert not result.passed
    assert "no query" in result.reasons[0]


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_better_interval_never_loses_the_pass(low, width, gain, margin):
    before = check(evaluation(all=difference(low, low + width)), GateConfig(margin=margin))
    after = check(evaluation(all=difference(low + gain, low + gain + width)), GateConfig(margin=margin))
    assert after.passed or not before.passed


def test_reads_the_file_and_its_folder(tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation(all=difference(0.1, 0.2))))
    assert check(tmp_path, GateConfig()).passed
    assert check(tmp_path / "evaluation.json", GateConfig()).passed


def test_bad_input_names_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"no differences to a baseline; evaluate with --baseline"):
        check({"differences": None}, GateConfig())
    with pytest.raises(InputError, match=r"'mrr@3' was not computed; choose one of goodrate@10"):
        check(evaluation(all=difference(0, 1)), GateConfig(metric="mrr@3"))
    with pytest.raises(InputError, match=r"evaluation.json: No such file"):
        check(tmp_path / "evaluation.json", GateConfig())
    for content in ("{", "[]"):
        (tmp_path / "evaluation.json").write_text(content)
        with pytest.raises(InputError, match="that `taoemb evaluate` wrote"):
            check(tmp_path, GateConfig())
