"""Tiny releases with real tokenizers: a BERT that is cut and pooled by mean, and a decoder that reads left to right."""

from pathlib import Path

from taoemb.config import EncoderConfig
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import Release, save_release
from tests.word_bert import word_bert

WORDS = [
    "red",
    "blue",
    "oak",
    "sofa",
    "lamp",
    "usb",
    "c",
    "cable",
    "shoes",
    "for",
    "men",
    "query",
    ":",
    "42",
    "ноутбук",
]
TEXTS = ["red sofa", "usb c cable", "", "blue oak lamp " * 20, "ноутбук 42", "unheard-of words", "靴", "shoes for men"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def bert_release(folder: Path, *, seed: int = 1) -> Release:
    """16 of 32 dimensions, mean pooling, a query template."""
    model = word_bert(folder / "bert", WORDS, seed, **SMALL, initializer_range=0.3)
    config = EncoderConfig(model=str(model), query_template="query: {text}", dimension=16)
    return save_release(folder / "bert-release", load_encoder(config))


def decoder_release(folder: Path) -> Release:
    """A Qwen3 that pools its last token."""
    from transformers import Qwen3Config, Qwen3Model

    model = word_bert(folder / "qwen3", WORDS, 1, **SMALL)  # for its tokenizer
    shape = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "vocab_size": len(WORDS) + 4}
    Qwen3Model(Qwen3Config(**SMALL, **shape, initializer_range=0.3)).save_pretrained(model)
    return save_release(folder / "qwen3-release", load_encoder(EncoderConfig(model=str(model), pooling="last")))
