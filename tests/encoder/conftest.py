"""Tiny random models with real tokenizers, saved as Hugging Face folders: what the encoder meets, in milliseconds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from taoemb.config import EncoderConfig
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.model import Encoder

torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other

TEXTS = [
    "red running shoes for men size 42",
    "usb c cable",
    "a",
    "wireless noise cancelling headphones with a case, black, 30 hours of playtime and a carrying bag for travel",
    "sofa without arms",
    "Garden hose 20 m",
    "what lamp is good for reading at night?",
]
WIDTH = 32


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with a word-piece tokenizer; its config says nothing about pooling."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS * 3, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 causal model whose tokenizer ends every text with its end token, as Qwen3-Embedding's does."""
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen3"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 0)]),
        ]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", padding_side="left")
    torch.manual_seed(2)
    config = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        max_position_embeddings=256,
        initializer_range=0.3,
        eos_token_id=0,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture
def bert(bert_folder: Path) -> Encoder:
    return load_encoder(EncoderConfig(model=str(bert_folder)))


@pytest.fixture
def qwen(qwen_folder: Path) -> Encoder:
    return load_encoder(EncoderConfig(model=str(qwen_folder)))


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


def assert_close(left: np.ndarray, right: np.ndarray, tolerance: float = 1e-5) -> None:
    assert left.shape == right.shape
    np.testing.assert_allclose(left, right, atol=tolerance, rtol=0)


@pytest.fixture(scope="session", name="assert_close")
def _assert_close():
    return assert_close
