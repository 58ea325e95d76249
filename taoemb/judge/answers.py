"""From a judge's answer to probabilities of the four grades, or to nothing: what it did not say is never invented."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taoemb.judge.prompt import LABELS

Probs = tuple[float, float, float, float]  # of the grades 1, 2, 3, 4
_COLUMN = {label: column for column, label in enumerate(LABELS)}


class NoLogprobs(ValueError):
    """The answer has no log-probabilities at all: the server does not give them."""


def grade_probs(choice: Mapping[str, Any]) -> Probs | None:
    """Probabilities of the grades 1 to 4 from the first token of an OpenAI chat choice, renormalised over the labels.

    Variants of a label token (" 4", "4") add up; a label outside the top log-probabilities has probability 0. None when
    no label is among them or the answer is malformed. Raises NoLogprobs when the choice carries no log-probabilities.
    """
    logprobs = choice.get("logprobs")
    if logprobs is None:
        raise NoLogprobs
    try:
        alternatives: Sequence[Mapping[str, Any]] = logprobs["content"][0]["top_logprobs"]
        found = [(_COLUMN.get(entry["token"].strip()), entry["logprob"]) for entry in alternatives]
        mass = [0.0, 0.0, 0.0, 0.0]
        for column, logprob in found:
            if column is not None:
                mass[column] += math.exp(logprob)
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError):
        return None
    total = sum(mass)
    if not math.isfinite(total) or total <= 0.0:
        return None
    return (mass[0] / total, mass[1] / total, mass[2] / total, mass[3] / total)


def relevance(grade_probs_P4: np.ndarray) -> np.ndarray:
    """Expected relevance (P,), float32: sum over labels l of p_l (l - 1) / 3 (paper section 4)."""
    return (grade_probs_P4 @ (np.arange(4, dtype=np.float32) / 3)).astype(np.float32)
