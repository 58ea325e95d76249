"""Answers that are no answer: refused with what came shown, never read as a grade."""

import json
import math
from typing import Any

import pytest
from hypothesis import strategies as st

from taoemb.judge.answers import Judgment, NoAnswer, NoLogprobs, grade_probs, read_choice
from tests.conftest import Fuzz


def choice(*alternatives: tuple[object, object]) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob} for token, logprob in alternatives]
    return {"logprobs": {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": top}]}}


def said(*alternatives: tuple[str, float]) -> Judgment | NoAnswer:
    return read_choice(choice(*((token, math.log(p)) for token, p in alternatives)))


@pytest.mark.parametrize("token", ["4", " 4", "\n4", "4 ", "Ġ4", "▁4", "Ċ4", "４"])
def test_awkward_spellings_of_a_label_are_read(token: str) -> None:
    answer = said((token, 0.8), ("1", 0.1))
    assert isinstance(answer, Judgment)
    assert answer.probs == pytest.approx((1 / 9, 0, 0, 8 / 9))
    assert answer.mass == pytest.approx(0.9)


@pytest.mark.parametrize(
    "token", ["**4**", "**", "Label: 4", "Label", "token_id:19", "Excellent", "<think>", "44", "", "²"]
)
def test_awkward_first_tokens_are_refused_and_shown(token: str) -> None:
    answer = said((token, 0.93), ("4", 0.0001))
    assert isinstance(answer, NoAnswer)
    assert repr(token) in answer.reason
    assert "judge.min_label_mass wants 0.5" in answer.reason
    assert answer.hint


@pytest.mark.parametrize("token", ["<think>", " <think>", "\n\n"])
def test_awkward_thinking_is_told_how_to_turn_it_off(token: str) -> None:
    answer = said((token, 0.99), ("4", 1e-9))
    assert isinstance(answer, NoAnswer)
    assert "enable_thinking: false" in answer.hint


def test_awkward_mass_decides_and_the_setting_is_kept() -> None:
    answer = choice(("<think>", math.log(0.6)), ("4", math.log(0.4)))
    assert grade_probs(answer) is None
    assert grade_probs(answer, 0.39) == (0, 0, 0, 1)
    assert grade_probs(answer, 0.41) is None


@pytest.mark.parametrize(
    "entry",
    [("4", math.nan), ("4", math.inf), ("4", 0.0001), ("4", "-0.1"), ("4", None), ("4", True), (4, -0.1), (None, -0.1)],
)
def test_awkward_entries_make_the_whole_answer_count_for_nothing(entry: tuple[object, object]) -> None:
    answer = read_choice(choice(entry, ("3", math.log(0.6))))
    assert isinstance(answer, NoAnswer)
    assert "top_logprobs" in answer.hint


def test_awkward_minus_infinity_is_probability_nothing() -> None:
    assert grade_probs(choice(("4", math.log(0.9)), ("3", -math.inf))) == (0, 0, 0, 1)


def test_awkward_probabilities_above_one_together_are_refused() -> None:
    assert isinstance(said(("4", 0.9), ("3", 0.9)), NoAnswer)


def test_awkward_words_of_a_server_stay_on_one_short_line() -> None:
    answer = said(("\x1b[2J\n" + "x" * 500, 0.99))
    assert isinstance(answer, NoAnswer)
    assert "\n" not in str(answer)
    assert "\x1b" not in str(answer)
    assert len(str(answer)) < 600


LABELS = st.sampled_from(
    ["1", "2", "3", "4", " 4", "Ġ3", "▁2", "\n1", "４", "**4**", "<think>", "token_id:19", "5", ""]
)
NUMBERS = st.floats() | st.floats(-30, 0) | st.integers() | st.integers(-(10**400), 10**400)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries({"token": LABELS | st.text(max_size=4) | JSON, "logprob": st.floats(-30, 0) | JSON})
PROPER = st.lists(st.tuples(LABELS, st.floats(0, 1)), min_size=1, max_size=8).map(
    lambda parts: [
        {"token": token, "logprob": math.log(p) - math.log(total) if p > 0 else -9999.0}
        for total in [sum(q for _, q in parts) * 1.0000001 or 1.0]
        for token, p in parts
    ]
)
TOP = PROPER | st.lists(ENTRIES | JSON, max_size=6) | JSON
CHOICES = (
    TOP.map(lambda top: {"logprobs": {"content": [{"top_logprobs": top}]}})
    | JSON.map(lambda content: {"logprobs": {"content": content}})
    | JSON.map(lambda logprobs: {"logprobs": logprobs})
)


def label_mass(answer: dict[str, Any]) -> float:
    """What the labels hold, counted another way: the sum over entries that read as one of 1 to 4."""
    labels = {"1", "2", "3", "4", "４"}
    top = answer["logprobs"]["content"][0]["top_logprobs"]
    return sum(math.exp(e["logprob"]) for e in top if e["token"].lstrip("Ġ▁Ċ").strip() in labels | set("１２３"))


def test_awkward_fuzz_of_grade_probs(fuzz: Fuzz) -> None:
    """None or a proper distribution, never from less mass than asked."""
    answered = 0

    def check(answer: dict[str, Any], min_mass: float) -> None:
        nonlocal answered
        try:
            probs = grade_probs(answer, min_mass)
        except NoLogprobs:
            assert answer["logprobs"] is None
            return
        found = read_choice(answer, min_mass)
        if probs is None:
            assert isinstance(found, NoAnswer)
            assert "\n" not in str(found)
            return
        answered += 1
        assert isinstance(found, Judgment)
        assert all(0 <= p <= 1 for p in probs)
        assert math.isclose(sum(probs), 1, abs_tol=1e-9)
        assert min_mass <= found.mass <= 1
        assert label_mass(answer) >= min_mass - 1e-9

    fuzz(check, CHOICES, st.floats(0.001, 1))
    assert answered > 20


def test_awkward_fuzz_of_grade_probs_over_the_wire(fuzz: Fuzz) -> None:
    """The same for what Python's reader of JSON makes of an answer, NaN and Infinity included."""

    def check(answer: dict[str, Any]) -> None:
        try:
            probs = grade_probs(json.loads(json.dumps(answer)))
        except NoLogprobs:
            return
        assert probs is None or math.isclose(sum(probs), 1, abs_tol=1e-9)

    small = TOP.map(lambda top: {"logprobs": {"content": [{"top_logprobs": top}]}}).filter(
        lambda one: len(str(one)) < 4000
    )
    fuzz(check, small)
