"""From a judge's answer to probabilities of the four grades, or to a reason why not: nothing is ever invented.

The four labels are renormalised over each other, so the little that a judge thinks of them when it says something else
(`<think>`, `**`, a word) would look like a firm grade. An answer therefore counts only when the labels together hold a
given part of the first token's probability, their mass. What is contradictory or malformed does not count at all.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taoemb.judge.prompt import LABELS

Probs = tuple[float, float, float, float]  # of the grades 1, 2, 3, 4
MIN_MASS = 0.5
_ABOVE_ONE = 0.01  # log-probabilities of bf16 may sum up to a little more than 1
_ABOVE_ZERO = 1e-5  # rounding of a log-probability in float32
_SPACES = "Ġ▁Ċ"  # how byte-level BPE and SentencePiece write a space or a line break before a token
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100
_COLUMN = {label: column for column, label in enumerate(LABELS)}
_COLUMN |= {chr(ord(label) + 0xFEE0): column for label, column in _COLUMN.items()}  # full-width digits


@dataclass(frozen=True)
class Judgment:
    """One answer that counts."""

    probs: Probs
    mass: float
    """The labels' part of the first token's probability, at most 1."""


@dataclass(frozen=True)
class NoAnswer:
    """Why an answer does not count: what came back, on one line."""

    reason: str
    hint: str = ""
    """Which setting may mend it; empty when nothing can be said."""
    mass: float | None = None
    """The labels' mass where the answer could be read."""

    def __str__(self) -> str:
        return f"{self.reason}; {self.hint}" if self.hint else self.reason


class NoLogprobs(ValueError):
    """The answer has no log-probabilities at all: the server does not give them."""


def grade_probs(choice: Mapping[str, Any], min_mass: float = MIN_MASS) -> Probs | None:
    """Probabilities of the grades 1 to 4 as :func:`read_choice` finds them; None when the answer does not count."""
    found = read_choice(choice, min_mass)
    return found.probs if isinstance(found, Judgment) else None


def read_choice(choice: Mapping[str, Any], min_mass: float = MIN_MASS) -> Judgment | NoAnswer:
    """The four grades' probabilities from the first token of an OpenAI chat choice, renormalised over the labels.

    Variants of a label token (" 4", "Ġ4", "４") add up; a label outside the top log-probabilities has probability 0.
    Raises NoLogprobs when the choice carries no log-probabilities.
    """
    logprobs = choice.get("logprobs")
    if logprobs is None:
        raise NoLogprobs
    try:
        alternatives = logprobs["content"][0]["top_logprobs"]
    except (KeyError, IndexError, TypeError):
        return NoAnswer(f"no logprobs.content[0].top_logprobs in {shortened(choice)}", _WANTED)
    if not isinstance(alternatives, list) or not alternatives:
        return NoAnswer(f"top_logprobs is {shortened(alternatives)}", _WANTED)
    entries = []
    for alternative in alternatives:
        entry = _entry(alternative)
        if entry is None:
            return NoAnswer(f"an alternative of the first token is {shortened(alternative)}", _WANTED)
        entries.append(entry)
    return _judgment(entries, min_mass)


def relevance(grade_probs_P4: np.ndarray) -> np.ndarray:
    """Expected relevance (P,), float32: sum over labels l of p_l (l - 1) / 3 (paper section 4)."""
    return (grade_probs_P4 @ (np.arange(4, dtype=np.float32) / 3)).astype(np.float32)


def shortened(value: object, length: int = 160) -> str:
    """The beginning of what came, on one line that a terminal can show; a string as it is, else as Python writes it."""
    text = value if isinstance(value, str) else _REPR.repr(value)
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "�" for c in text[: length * 4]).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _entry(alternative: object) -> tuple[str, float] | None:
    """Token and probability; None when they are not what the protocol says."""
    if not isinstance(alternative, dict):
        return None
    token, logprob = alternative.get("token"), alternative.get("logprob")
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    if not logprob <= _ABOVE_ZERO:  # nan too
        return None
    return token, 0.0 if logprob < -1e4 else math.exp(logprob)


def _judgment(entries: Sequence[tuple[str, float]], min_mass: float) -> Judgment | NoAnswer:
    whole = math.fsum(p for _, p in entries)
    if whole > 1 + _ABOVE_ONE:
        return NoAnswer(f"the first token's probabilities add up to {whole:.3g}", _WANTED)
    parts: tuple[list[float], ...] = ([], [], [], [])
    said = set()
    for token, p in entries:
        column = _COLUMN.get(token.lstrip(_SPACES).strip())
        if column is None or p == 0:
            continue
        if (token, p) in said:  # equal texts of two tokens differ in probability; equal entries say one thing twice
            return NoAnswer(f"the token {token!r} is listed twice with probability {p:.3g}", _WANTED)
        said.add((token, p))
        parts[column].append(p)
    mass = math.fsum(p for part in parts for p in part)
    if mass < min_mass or mass <= 0:
        return _no_label(entries, mass, min_mass)
    one, two, three, four = (math.fsum(part) / mass for part in parts)
    return Judgment((one, two, three, four), min(mass, 1.0))


_WANTED = "wanted are `top_logprobs` as OpenAI's chat completions and vLLM give them, each ≤ 0 (a proxy may drop them)"
_THINKING = "turn thinking off: judge.extra_body={chat_template_kwargs: {enable_thinking: false}}"


def _no_label(entries: Sequence[tuple[str, float]], mass: float, min_mass: float) -> NoAnswer:
    token, p = max(entries, key=lambda entry: (entry[1], entry[0]))
    reason = (
        f"the first token is {token[:60]!r} (probability {p:.2g}), and the labels 1 to 4 hold {mass:.2g} "
        f"where judge.min_label_mass wants {min_mass:g}"
    )
    return NoAnswer(reason, _hint(token), mass)


def _hint(token: str) -> str:
    """What most likely makes a judge begin with `token`."""
    bare = token.lstrip(_SPACES).strip()
    if bare.startswith("token_id:"):
        return "the server names tokens by number; start it without --return-tokens-as-token-ids"
    if "think" in bare.lower() or bare.startswith("<") or not bare:
        return _THINKING
    if bare.startswith(("*", "#", "`", "{", "[", '"')):
        return "the model writes markup before the label; take another model, or say it in the rubric (judge.rubric)"
    return f"the model doesn't begin with the label; {_THINKING}, or take another model or rubric (judge.rubric)"
