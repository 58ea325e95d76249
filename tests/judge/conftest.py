"""A tiny causal LM with random weights, made here: no download, real transformers code."""

import string
from pathlib import Path

import pytest

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_tokenizer(chat: bool = True):
    """A byte-level tokenizer: a token a character, the four labels among them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate(specials + alphabet)}
    core = Tokenizer(models.BPE(vocab=words, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|pad|>", eos_token="<|end|>", additional_special_tokens=specials[1:4]
    )
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    assert all(digit in words for digit in string.digits)
    return tokenizer


def tiny_lm(path: Path, architecture: str = "llama", chat: bool = True) -> Path:
    """Write a causal LM of about 50,000 random weights to `path`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tiny_tokenizer(chat)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    if architecture == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 8192}
    else:
        sizes |= {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 8192}
    if architecture == "mistral":
        sizes["sliding_window"] = 16
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, vocab_size=len(tokenizer), initializer_range=0.4, **sizes
    )  # pairs differ
    config.pad_token_id, config.eos_token_id, config.bos_token_id = 0, 4, None
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm(tmp_path_factory.mktemp("judge") / "lm")
