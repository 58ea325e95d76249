"""Parameters given as text become typed arguments, or an error that names the parameter."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.errors import InputError
from taoemb.jobs.pipelines import Parameter, Pipeline, parse_arguments, require_arguments

NAMES = {"text": "str", "count": "int", "rate": "float", "flag": "bool", "names": "list", "table": "dict"}
PIPELINE = Pipeline(
    "p",
    None,
    "",
    {name: Parameter(name, kind, None, name == "text", "Some text.") for name, kind in NAMES.items()},
    [],
    [],
)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5)


@given(
    text=st.text(),
    count=st.integers(),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    names=st.lists(JSON),
    table=st.dictionaries(st.text(), JSON),
)
def test_every_value_comes_back(text, count, rate, flag, names, table):
    given = {"text": text, "count": count, "rate": rate, "flag": flag, "names": names, "table": table}
    written = [
        f"{name}={value if name in ('text', 'count', 'rate') else json.dumps(value)}" for name, value in given.items()
    ]
    parsed = parse_arguments(PIPELINE, written)
    assert parsed == given
    assert {name: type(value).__name__ for name, value in parsed.items()} == NAMES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuont=1", "--param cuont: p has no such parameter; it has text, count, rate, flag, names, table"),
        ("count", "--param 'count': expected name=value"),
        ("count=1.5", "--param count: expected int, got '1.5'"),
        ("count=", "--param count: expected int, got ''"),
        ("rate=fast", "--param rate: expected float, got 'fast'"),
        ("rate=nan", "--param rate: expected float, got 'nan'"),
        ("flag=1", "--param flag: expected bool, got '1' (true or false)"),
        ("names=a,b", "--param names: expected list, got 'a,b' (as JSON)"),
        ("names={}", "--param names: expected list, got '{}' (as JSON)"),
        ("table=[]", "--param table: expected dict, got '[]' (as JSON)"),
    ],
)
def test_bad_parameters(text, message):
    with pytest.raises(InputError) as error:
        parse_arguments(PIPELINE, [text])
    assert str(error.value) == message


def test_the_last_value_counts_and_equals_signs_are_kept():
    assert parse_arguments(PIPELINE, ["count=1", "text=a=b", "count=2"]) == {"count": 2, "text": "a=b"}


def test_a_needed_parameter_is_named():
    require_arguments(PIPELINE, {"text": ""})
    with pytest.raises(InputError, match=r"--param text=… is needed: Some text\."):
        require_arguments(PIPELINE, {"count": 1})
