"""What a judge server needs of a model: conversations in, log-probabilities of the four labels out."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Message = dict[str, str]  # role and content, both checked to be strings


class Backend(Protocol):
    """A loaded judge. Its methods are called from one thread."""

    kind: str
    digest: str
    max_tokens: int  # longest prompt

    def prepare(self, messages: Sequence[Message]) -> Any:
        """What :meth:`label_logprobs` needs of one conversation. Raises InputError when it can't be judged."""

    def prompt_tokens(self, prepared: Any) -> int:
        """Tokens of one prepared conversation, for `usage`."""

    def label_logprobs(self, prepared: Sequence[Any]) -> np.ndarray:
        """Log-probabilities (P, 4) of the labels 1, 2, 3, 4 as the first token of the answer."""
