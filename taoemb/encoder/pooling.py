"""Token vectors to one text vector; right and left padding give the same result."""

import torch
from torch import Tensor

from taoemb.encoder.manifest import POOLINGS, Pooling


def pool(hidden_NTD: Tensor, mask_NT: Tensor, how: Pooling) -> Tensor:
    """Pool the last hidden states over the real tokens (`mask_NT` is 1 there), in float32: (N, D).

    mean: average (Sentence-BERT). cls: the first real token (BERT). last: the last real token (decoder LLMs, where only
    it has seen the whole text; Qwen3-Embedding).
    """
    if how == "mean":
        mask_NT1 = mask_NT.unsqueeze(-1).to(torch.float32)
        return (hidden_NTD.float() * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1.0)
    positions_NT = torch.arange(mask_NT.shape[1], device=mask_NT.device).expand_as(mask_NT)
    if how == "cls":
        at_N = torch.where(mask_NT.bool(), positions_NT, mask_NT.shape[1] - 1).amin(1)
    elif how == "last":
        at_N = torch.where(mask_NT.bool(), positions_NT, 0).amax(1)
    else:
        raise ValueError(f"pooling {how!r}: expected one of {POOLINGS}")
    return hidden_NTD[torch.arange(hidden_NTD.shape[0], device=hidden_NTD.device), at_N].float()
