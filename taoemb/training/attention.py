"""Which attention a trained encoder computes: torch's fused one loses badly where bf16 is trained on a CPU.

There its backward pass takes several times what it takes in float32, and a third of the whole step; plain matrix
products are fast, and the scores of short texts are small. benchmarks/speed/training.py measures it.
"""

from taoemb.config import Config
from taoemb.encoder.model import Encoder
from taoemb.training.distributed import Ranks
from taoemb.training.engine import autocasts

EAGER_TOKENS = 128  # memory of plain attention grows with the square of a text


def choose_attention(encoder: Encoder, config: Config, ranks: Ranks) -> Encoder:
    """The encoder itself, with plain attention where that is faster and `encoder.attention` is left open."""
    longest = max(encoder.spec.max_query_tokens, encoder.spec.max_item_tokens)
    bf16_on_cpu = ranks.device.type == "cpu" and autocasts(config.engine, ranks.device)
    if config.encoder.attention is None and bf16_on_cpu and longest <= EAGER_TOKENS:
        encoder.backbone.set_attn_implementation("eager")
    return encoder
