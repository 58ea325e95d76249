"""Probabilities from log-probabilities; a malformed answer gives nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.judge.answers import NoLogprobs, grade_probs, relevance


def choice(*alternatives: tuple[object, object]) -> dict:
    top = [{"token": token, "logprob": logprob} for token, logprob in alternatives]
    return {"logprobs": {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": top}]}}


def test_probabilities_are_renormalised_over_the_labels_and_variants_add_up() -> None:
    answer = choice(("4", math.log(0.3)), (" 4", math.log(0.1)), ("The", math.log(0.4)), ("\n1", math.log(0.2)))
    assert grade_probs(answer) == pytest.approx((0.2 / 0.6, 0, 0, 0.4 / 0.6))


@given(st.lists(st.floats(-50, 0), min_size=4, max_size=4), st.floats(0.51, 1))
def test_probabilities_sum_to_one_and_keep_the_order(weights: list[float], mass: float) -> None:
    logprobs = list(np.array(weights) - np.logaddexp.reduce(weights) + math.log(mass))
    probs = grade_probs(choice(*((str(i + 1), lp) for i, lp in enumerate(logprobs))))
    assert probs is not None
    assert sum(probs) == pytest.approx(1)
    assert np.argmax(probs) == np.argmax(logprobs) or max(logprobs) - sorted(logprobs)[-2] < 1e-9
    assert 0 <= relevance(np.array([probs], dtype=np.float32))[0] <= 1 + 1e-6


@pytest.mark.parametrize(
    "answer",
    [
        choice(("5", -0.1), ("Yes", -0.2)),
        choice(),
        choice(("4", None)),
        choice(("4", float("nan"))),
        choice(("4", float("inf"))),
        choice(("4", 1e6)),
        choice(("4", -1e9)),
        choice((None, -0.1)),
        {"logprobs": {"content": []}},
        {"logprobs": {"content": None}},
        {"logprobs": {}},
        {"logprobs": "4"},
        {"logprobs": {"content": [{"top_logprobs": "4"}]}},
    ],
)
def test_what_was_not_said_is_not_invented(answer: dict) -> None:
    assert grade_probs(answer) is None


@pytest.mark.parametrize("answer", [{}, {"logprobs": None}])
def test_no_logprobs_at_all(answer: dict) -> None:
    with pytest.raises(NoLogprobs):
        grade_probs(answer)


def test_relevance_is_the_expected_grade() -> None:
    probs = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0.25] * 4, [np.nan] * 4], dtype=np.float32)
    np.testing.assert_allclose(relevance(probs), [0, 1 / 3, 1, 0.5, np.nan], rtol=1e-6)
