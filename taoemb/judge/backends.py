"""What a judge server needs of a model: conversations in, log-probabilities of the four labels out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from taoemb.config import JudgeServerConfig
from taoemb.errors import InputError
from taoemb.judge.prompt import CHARACTERS_PER_TOKEN, read_messages

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


class CrossEncoderBackend:
    """A judge trained by `taoemb judge train`: reads query and item back out of the prompt."""

    kind = "cross-encoder"

    def __init__(self, path: Path, device: str, precision: Literal["auto", "fp32", "bf16"] = "auto") -> None:
        from taoemb.judge.cross_encoder import CrossEncoderJudge

        self._judge = CrossEncoderJudge.load(path, device, precision)
        self.digest = self._judge.digest
        self.max_tokens = self._judge.spec.max_tokens

    def prepare(self, messages: Sequence[Message]) -> tuple[str, str]:
        return read_messages(messages)

    def prompt_tokens(self, prepared: tuple[str, str]) -> int:
        """An estimate by length; longer texts are cut to `max_tokens`."""
        return min(sum(map(len, prepared)) // CHARACTERS_PER_TOKEN + 1, self.max_tokens)

    def label_logprobs(self, prepared: Sequence[tuple[str, str]]) -> np.ndarray:
        queries, items = zip(*prepared, strict=True)
        return np.log(np.maximum(self._judge.score(queries, items), 1e-9))


def load_backend(model: str, config: JudgeServerConfig) -> Backend:
    """Load the judge in the folder `model` (a cross-encoder or a causal LM) or a causal LM's hub id.

    Raises InputError when it is neither.
    """
    path = Path(model)
    if path.exists() and not (path / "judge.json").is_file() and not (path / "config.json").is_file():
        raise InputError(
            f"--model {model}: neither judge.json nor config.json in it; give a folder written by taoemb judge train, "
            "or one of a Hugging Face causal LM"
        )
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if (path / "judge.json").is_file():
        return CrossEncoderBackend(path, device, config.precision)
    from taoemb.judge.causal import CausalBackend

    return CausalBackend.load(model, device, config)
