"""Plain attention is chosen only where it is faster, and never over the user's own choice."""

import pytest
import torch

from taoemb.config import load_config
from taoemb.encoder.loading import load_encoder
from taoemb.training.attention import choose_attention
from taoemb.training.distributed import Ranks


@pytest.mark.parametrize(
    ("settings", "device", "expected"),
    [
        (("engine.precision=bf16-autocast",), "cpu", "eager"),
        (("engine.precision=bf16-autocast",), "cuda", "sdpa"),
        (("engine.precision=bf16-autocast", "encoder.attention=sdpa"), "cpu", "sdpa"),
        (("engine.precision=bf16-autocast", "encoder.max_item_tokens=256"), "cpu", "sdpa"),
        (("engine.precision=fp32",), "cpu", "sdpa"),
    ],
)
def test_attention_of_training(settings, device, expected):
    config = load_config(None, settings)
    encoder = load_encoder(config.encoder)  # the packaged default
    ranks = Ranks(0, 1, torch.device(device))
    assert choose_attention(encoder, config, ranks).backbone.config._attn_implementation == expected
