"""A tiny graded dataset and a tiny BERT with random weights, both made here."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taoemb.data.schemas import ITEMS, JUDGMENTS, QUERIES

COLOURS = ("red", "blue", "green", "black")
THINGS = ("chair", "lamp", "phone", "shoe", "cable", "mug")


def write_dataset(
    root: Path,
    queries: Sequence[tuple[str, Sequence[str]]],
    items: Sequence[dict],
    judgments: Sequence[tuple[int, int, int, str]],
) -> Path:
    """`queries`: (text, slices); `items`: fields beside item_id; `judgments`: query row, item row, grade, source."""
    root.mkdir(parents=True)
    rows = [{"item_id": f"i{n}", **item} for n, item in enumerate(items)]
    pq.write_table(pa.Table.from_pylist(rows, ITEMS), root / "items.parquet")
    asked = [{"query_id": f"q{n}", "text": text, "slices": list(names)} for n, (text, names) in enumerate(queries)]
    pq.write_table(pa.Table.from_pylist(asked, QUERIES), root / "queries.parquet")
    graded = [
        {"query_id": f"q{query}", "item_id": f"i{item}", "grade": grade, "source": source}
        for query, item, grade, source in judgments
    ]
    pq.write_table(pa.Table.from_pylist(graded, JUDGMENTS), root / "judgments.parquet")
    return root


def colour_shop(root: Path, source: str = "rule", easy: bool = False) -> Path:
    """24 items, 24 queries: 4 for the right thing in the right colour, 3 thing only, 2 colour only, 1 neither.

    With `easy` the item's colour alone decides (red 4 … black 1), which a model of one layer learns in seconds.
    """
    kinds = [(colour, thing) for thing in THINGS for colour in COLOURS]
    items = [
        {"title": f"{thing} {n}", "price": 5.0 + n, "attributes": [("colour", colour)], "description": f"a {thing}"}
        for n, (colour, thing) in enumerate(kinds)
    ]
    queries = [(f"{colour} {thing}", (thing,)) for colour, thing in kinds]
    judgments = [
        (q, i, 4 - i % 4 if easy else 1 + 2 * (asked[1] == kind[1]) + (asked[0] == kind[0]), source)
        for q, asked in enumerate(kinds)
        for i, kind in enumerate(kinds)
    ]
    return write_dataset(root, queries, items, judgments)


def tiny_bert(path: Path, sentences: bool = False) -> Path:
    """Write a BERT of one layer and a word-level tokenizer that knows the shop's words.

    With `sentences` the folder is one of sentence-transformers: a model that says how its cosines are made.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *COLOURS, *THINGS, "a", "colour", ":", ".", "price"]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=64, initializer_range=0.2, **sizes)
    BertModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    if sentences:
        kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
        modules = [
            {"idx": n, "name": str(n), "path": where, "type": f"sentence_transformers.models.{kind}"}
            for n, (where, kind) in enumerate(kinds.items())
        ]
        (path / "modules.json").write_text(json.dumps(modules))
        (path / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"document": "mug "}}))
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return path
