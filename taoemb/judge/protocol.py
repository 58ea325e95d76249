"""What a judge server needs of a model: conversations in, log-probabilities of the four labels out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Message = dict[str, str]  # role and content, both checked to be strings


@dataclass(frozen=True)
class FirstTokens:
    """How likely the first token of P answers is what."""

    labels_P4: np.ndarray
    """Log-probabilities of the labels 1, 2, 3, 4."""
    others: Sequence[tuple[str, float] | None] = ()
    """Of each pair the token that is likelier than any label, and its log-probability; empty where none can be."""


class Backend(Protocol):
    """A loaded judge. Its methods are called from one thread."""

    kind: str
    digest: str
    max_tokens: int  # longest prompt

    def prepare(self, messages: Sequence[Message]) -> Any:
        """What :meth:`first_tokens` needs of one conversation. Raises InputError when it can't be judged."""

    def prompt_tokens(self, prepared: Any) -> int:
        """Tokens of one prepared conversation, for `usage`."""

    def first_tokens(self, prepared: Sequence[Any]) -> FirstTokens:
        """What the answers to P prepared conversations begin with."""
