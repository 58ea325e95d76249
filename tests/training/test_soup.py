"""Blending with the starting weights: halfway is halfway, with adapters too."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from taoemb.training.soup import blend


def test_a_blend_lies_between():
    start = {"w": torch.zeros(2), "ids": torch.tensor([1])}
    trained = {"w": torch.tensor([1.0, -2.0]), "ids": torch.tensor([2])}
    got = blend(start, trained, 0.25)
    assert got["w"].tolist() == [0.25, -0.5]
    assert got["ids"].tolist() == [2]
    assert blend(start, trained, 1.0)["w"].tolist() == [1.0, -2.0]


def test_adapters_change_the_weights_in_proportion():
    torch.manual_seed(0)
    a, b = torch.randn(2, 5), torch.randn(4, 2)
    start = {"q.lora_A.default.weight": torch.randn(2, 5), "q.lora_B.default.weight": torch.zeros(4, 2)}
    trained = {"q.lora_A.default.weight": a, "q.lora_B.default.weight": b}
    got = blend(start, trained, 0.5)
    torch.testing.assert_close(got["q.lora_B.default.weight"] @ got["q.lora_A.default.weight"], 0.5 * (b @ a))


@pytest.mark.parametrize("adapters", [(), ("encoder.lora={rank: 2, alpha: 4}",)], ids=["full", "lora"])
def test_a_release_is_the_blend_that_the_settings_ask_for(adapters, train, release, tmp_path):
    before = load_file(release / "model.safetensors")
    train("sft", tmp_path / "whole", *adapters, release=release)
    train("sft", tmp_path / "half", "sft.soup=0.5", *adapters, release=release)
    whole, half = (load_file(tmp_path / run / "release" / "model.safetensors") for run in ("whole", "half"))
    assert any(not np.array_equal(whole[name], before[name]) for name in before)
    for name, value in before.items():
        np.testing.assert_allclose(half[name], (value + whole[name]) / 2, atol=1e-6)
