"""How fast this processor multiplies matrices, and how much of that an encoder uses."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

SIDES = (512, 1024, 2048)
ROUNDS = 7


def multiplications(dtype: torch.dtype, threads: int) -> float:
    """FLOP/s of the fastest square product: the greatest of some sizes and rounds, each warm."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return max(_rate(side, dtype) for side in SIDES)
    finally:
        torch.set_num_threads(before)


def _rate(side: int, dtype: torch.dtype) -> float:
    left, right = (torch.randn(side, side).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds)


def flops_of(model: Path, texts: Sequence[str]) -> float:
    """FLOPs of matrix products of one pass of a BERT-like encoder over texts without padding.

    2 per weight and token; attention: QKᵀ and its product with V, 4 · T² · width each layer.
    """
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    limit = config.max_position_embeddings
    lengths = [len(ids) for ids in tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]]
    width, wider = config.hidden_size, config.intermediate_size
    weights = config.num_hidden_layers * (4 * width * width + 2 * width * wider)
    attention = config.num_hidden_layers * 4 * width * sum(length * length for length in lengths)
    return 2.0 * weights * sum(lengths) + attention
