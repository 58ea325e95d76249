"""Patterns of slices: linear in time whatever they are, and in the sense of `re` or refused."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.errors import InputError
from taoemb.rollout.patterns import MAX_CHARACTERS, query_pattern
from taoemb.rollout.plan import parse_plan

TEXTS = st.text("abAB19_ .-üßÜé٣日\xa0\t", max_size=12)
ATOMS = st.sampled_from(
    [*"abü日_.^$", r"\w", r"\d", r"\s", r"\W", r"\D", r"\S", "[ab]", "[^a]", r"[\w-]", r"[^\d\s]", r"\Z"]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{0,2}", "*?"])).map(lambda two: f"(?:{two[0]}){two[1]}"),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(PATTERNS, TEXTS)
def test_awkward_patterns_mean_what_they_mean_in_python(pattern, text):
    assert query_pattern(pattern)(text) is (re.search(pattern, text, re.IGNORECASE) is not None)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(a*)*b", "(.*a){12}$"])
def test_awkward_patterns_take_no_time(pattern):
    """The first needs more than a million years with `re`."""
    matches, began = query_pattern(pattern), time.perf_counter()
    matches("a" * 4000 + "!")
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(?=sofa)", "no look-around"),
        (r"(so)\1", "no backreferences"),
        ("(", "is no regular expression"),
        (r"\bbüro\b", "ASCII letters only"),
        (r"[^\W]", "inside [...]"),
        ("a{,3}", "{0,n}"),
        ("a" * (MAX_CHARACTERS + 1), "at most 1,000"),
        ("((a{100}){100}){100}", "linear time"),
    ],
)
def test_awkward_patterns_are_refused_in_words(pattern, words):
    with pytest.raises(InputError) as refused:
        parse_plan({"slices": [{"name": "mine", "pattern": pattern}]}, "plan.yaml")
    assert str(refused.value).startswith("plan.yaml: slices.0: mine: ")
    assert words in str(refused.value)
