"""A random two-layer BERT that knows a dataset's words, so that a whole pipeline runs in a minute."""

import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq


def tiny_model(folder: Path, data: Path, words: int = 1500) -> Path:
    """Save it as a Hugging Face folder; it starts an encoder as well as a judge."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    texts = [
        *pq.read_table(data / "items.parquet")["title"].to_pylist(),
        *pq.read_table(data / "queries.parquet")["text"].to_pylist(),
    ]
    counted = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(word for word, _ in counted.most_common(words))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **names).save_pretrained(folder)
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=128, initializer_range=0.2, **shape)
    BertModel(config).save_pretrained(folder)
    return folder
