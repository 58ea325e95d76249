"""Averages trained weights with those that training started from, so that a release forgets less of what it knew.

A base model has read far more than a catalogue's training queries hold. Between its weights and the trained ones lies
a model that is mostly as good on queries like those of training, and better on others (WiSE-FT, arXiv 2109.01903).
"""

from collections.abc import Mapping

from torch import Tensor


def blend(start: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """start + share · (trained − start), tensor by tensor; what is not floating-point stays as trained.

    Of low-rank adapters only B moves (its start is 0): their product, the change of the weights, scales by `share`.
    """
    return {
        name: value if _stays(name, value) else start[name].to(value).lerp(value, share)
        for name, value in trained.items()
    }


def _stays(name: str, value: Tensor) -> bool:
    return not value.is_floating_point() or ".lora_A." in name
