"""FLOPs that a benchmark claims must be those of the model, and a roof must be a rate that was reached."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, BertConfig, BertModel

from benchmarks.speed.roof import flops_of, multiplications
from taoemb.encoder.sources import DEFAULT_MODEL, find_model

TEXTS = ("usb c cable", "red running shoes for men size 42", "a")


def test_flops_are_those_that_torch_counts(tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(find_model(DEFAULT_MODEL).folder)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = BertModel(BertConfig(vocab_size=len(tokenizer), **shape), add_pooling_layer=False).eval()
    model.set_attn_implementation("eager")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        for text in TEXTS:  # alone, so that nothing is padded
            model(**tokenizer(text, return_tensors="pt"))
    assert flops_of(tmp_path, TEXTS) == counter.get_total_flops()


def test_a_roof_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    assert multiplications(torch.float32, 1) > 1e9
    assert torch.get_num_threads() == before


def test_longer_texts_cost_more(tmp_path: Path):
    folder = find_model(DEFAULT_MODEL).folder
    assert flops_of(folder, TEXTS[1:2]) > 2 * flops_of(folder, TEXTS[2:])
    assert flops_of(folder, TEXTS) == pytest.approx(sum(flops_of(folder, [text]) for text in TEXTS))
