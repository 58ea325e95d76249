"""When attention needs no padding mask: without one, PyTorch may use its flash kernels, with one it may not.

A decoder's token sees only what stands before it. With the padding on the right, no real token ever sees any, so the
causal rule alone gives the same vectors; transformers then also spares itself the (N, 1, T, T) mask, and the copies of
key and value heads that a masked SDPA makes for grouped queries.
"""

from transformers import PretrainedConfig

from taoemb.encoder.batching import TokenBatch

_DECODERS = {"llama", "mistral", "qwen2", "qwen3"}  # positions count from the left, whatever the mask says


def reads_left_to_right(config: PretrainedConfig) -> bool:
    """Whether a model is one of the decoders known to be causal in every layer (not one made bidirectional)."""
    said = config.to_dict()
    own_code = "auto_map" in said  # trust_remote_code: anything may happen there
    return config.model_type in _DECODERS and said.get("is_causal", True) and not own_code


def padded_on_the_right(batch: TokenBatch) -> bool:
    """Whether every text begins in the first column."""
    return bool(batch.mask_NT[:, 0].all())
