"""What embeds a whole catalogue: torch, or on CPUs an OpenVINO model when the catalogue pays for its conversion."""

import importlib.util
import sys
from collections.abc import Callable, Sequence

import numpy as np

from taoemb.encoder.model import Encoder, Kind
from taoemb.errors import InputError
from taoemb.progress import Progress

Embed = Callable[[Sequence[str], Progress | None], np.ndarray]
"""Vectors (N, D) float32 of texts; tells the progress, if given, how many are on their way."""
WORTH_CONVERTING = 10_000
"""Texts from which `auto` converts: with fewer, converting and compiling cost more than they save."""


def bulk_embedder(encoder: Encoder, kind: Kind, expected: int) -> Embed:
    """What embeds about `expected` texts, `encoder.bulk_backend` being obeyed; use it while the weights stay.

    A GPU always runs torch, and so does `auto` with compiled layers. Raises InputError when `openvino` is asked for and
    not installed, can't hold the model, or its vectors differ from torch's; `auto` says so on standard error and takes
    torch.
    """

    def torch_encode(texts: Sequence[str], progress: Progress | None) -> np.ndarray:
        return encoder.encode(texts, kind, progress)

    wanted = encoder.bulk_backend
    if encoder.device.type != "cpu" or wanted == "torch":
        return torch_encode
    installed = importlib.util.find_spec("openvino") is not None
    if wanted == "openvino" and encoder.compiled:
        raise InputError("encoder.bulk_backend openvino: not with encoder.compile, which is torch's; leave one out")
    if wanted == "auto" and (encoder.compiled or not installed or expected < WORTH_CONVERTING):
        return torch_encode
    if not installed:
        raise InputError("encoder.bulk_backend openvino: not installed; pip install openvino, or use torch")
    from taoemb.encoder.compiled import CompiledEncoder

    try:
        return CompiledEncoder(encoder, kind).encode
    except InputError as error:
        if wanted != "auto":
            raise
        print(f"embedding with torch: {error}", file=sys.stderr)
        return torch_encode
