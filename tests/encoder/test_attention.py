"""Leaving the mask away must change no vector and no gradient, and must happen only where it can't."""

import copy

import numpy as np
import pytest
import torch
from transformers import BertConfig, Gemma3TextConfig, Qwen3Config

from taoemb.encoder.attention import padded_on_the_right, reads_left_to_right
from taoemb.encoder.batching import TokenBatch
from taoemb.encoder.model import Encoder


def _masks(encoder: Encoder) -> list:
    """The masks that the backbone is called with from now on."""
    seen: list = []
    encoder.backbone.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    return seen


def _masked(encoder: Encoder) -> Encoder:
    always = copy.deepcopy(encoder)
    always._left_to_right = False
    return always


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_decoder_without_mask_gives_the_same_vectors_and_gradients(qwen: Encoder, pooling: str, texts: list[str]):
    object.__setattr__(qwen.spec, "pooling", pooling)
    masked, seen = _masked(qwen), _masks(qwen)
    weights = torch.linspace(-1, 1, qwen.spec.dimension)
    vectors = [encoder(encoder.tokenize(texts, "item", 1)) for encoder in (qwen, masked)]
    assert seen == [None]
    torch.testing.assert_close(vectors[0], vectors[1], atol=1e-6, rtol=0)
    for each in vectors:
        (each @ weights).sum().backward()
    for (name, ours), theirs in zip(qwen.named_parameters(), masked.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_in_bf16_the_two_differ_by_rounding_only(qwen: Encoder, texts: list[str]):
    qwen.precision = "bf16"
    cosines = (qwen.encode(texts, "item") * _masked(qwen).encode(texts, "item")).sum(1)
    np.testing.assert_allclose(cosines, 1, atol=2e-3)


def test_padding_on_the_left_keeps_the_mask(qwen: Encoder, texts: list[str]):
    (batch,) = qwen.tokenize(texts, "query", buckets=1)
    flipped = TokenBatch(batch.input_ids_NT.flip(1), batch.mask_NT.flip(1), batch.order)
    assert (padded_on_the_right(batch), padded_on_the_right(flipped)) == (True, False)
    seen = _masks(qwen)
    qwen([flipped])
    assert seen[0] is not None


def test_models_that_read_both_ways_keep_the_mask(bert: Encoder, texts: list[str]):
    seen = _masks(bert)
    bert.encode(texts, "query")
    assert all(mask is not None for mask in seen)


def test_which_models_read_left_to_right():
    assert reads_left_to_right(Qwen3Config())
    assert not reads_left_to_right(Qwen3Config(is_causal=False))
    assert not reads_left_to_right(Qwen3Config(auto_map={"AutoModel": "modeling.Model"}))
    assert not reads_left_to_right(BertConfig())
    assert not reads_left_to_right(Gemma3TextConfig(use_bidirectional_attention=True))
