"""The encoder as one module from token ids to vectors: what is exported into the graph of another runtime.

Pooling, the cut to the dimension and the normalisation are inside, so that no runtime can do them differently.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from taoemb.encoder.model import Encoder
from taoemb.encoder.pooling import pool


class Whole(nn.Module):
    """From token ids to vectors, without the lists and dataclasses of the encoder."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.backbone, self.spec = encoder.backbone, encoder.spec

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden_NTD = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled_ND = pool(hidden_NTD, attention_mask, self.spec.pooling)
        return F.normalize(pooled_ND[:, : self.spec.dimension], dim=-1)
