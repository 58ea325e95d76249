"""The models that a judge server can load: a cross-encoder of our own, or any causal LM."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from taoemb.config import JudgeServerConfig
from taoemb.errors import InputError
from taoemb.judge.prompt import CHARACTERS_PER_TOKEN, read_messages
from taoemb.judge.protocol import Backend, FirstTokens, Message


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

    def first_tokens(self, prepared: Sequence[tuple[str, str]]) -> FirstTokens:
        queries, items = zip(*prepared, strict=True)
        return FirstTokens(np.log(np.maximum(self._judge.score(queries, items), 1e-9)))


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
