"""Bulk embedding by OpenVINO gives torch's vectors, whatever the batch; `auto` falls back to torch and says so."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from taoemb.config import EncoderConfig
from taoemb.encoder import bulk
from taoemb.encoder.bulk import bulk_embedder
from taoemb.encoder.compiled import CompiledEncoder
from taoemb.encoder.hardware import has_bf16
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.model import Encoder
from taoemb.errors import InputError
from taoemb.progress import Progress

BOTH = pytest.mark.parametrize("name", ["bert", "qwen"])
CPU = torch.device("cpu")
needs_bf16 = pytest.mark.skipif(not has_bf16(CPU), reason="bf16: a CPU with AVX512-BF16 or AMX")


@BOTH
@pytest.mark.parametrize("kind", ["query", "item"])
def test_openvino_gives_torchs_vectors(name: str, kind, request: pytest.FixtureRequest, texts: list[str]) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    expected_ND = encoder.encode(texts, kind)
    for threads in (1, 2):
        compiled = CompiledEncoder(encoder, kind, threads)
        assert compiled.min_cosine > 1 - 1e-5
        np.testing.assert_allclose(compiled.encode(texts), expected_ND, atol=2e-5, rtol=0)
        alone_ND = np.concatenate([compiled.encode([text]) for text in texts])
        np.testing.assert_allclose(alone_ND, expected_ND, atol=2e-5, rtol=0)
    assert compiled.encode([]).shape == (0, encoder.spec.dimension)


@needs_bf16
def test_bf16_stays_near_torchs_fp32(bert: Encoder, texts: list[str]) -> None:
    expected_ND = bert.encode(texts, "item")
    bert.precision = "bf16"
    vectors_ND = CompiledEncoder(bert, "item", 1).encode(texts)
    cosines_N = (vectors_ND * expected_ND).sum(1)
    assert (cosines_N > 0.99).all()
    assert (vectors_ND != expected_ND).any(), "bf16 was really used"
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-2)


def test_many_batches_land_in_their_rows_and_are_counted(bert: Encoder, texts: list[str]) -> None:
    bert.tokens_per_batch = 64
    many = [f"{text} {number}" for number in range(60) for text in texts]
    bar = Progress("embed", len(many))
    vectors_ND = CompiledEncoder(bert, "item", 2).encode(many, bar)
    np.testing.assert_allclose(vectors_ND, bert.encode(many, "item"), atol=2e-5, rtol=0)
    assert bar.done == len(many)


def test_a_shorter_dimension_is_cut_before_it_is_normalised(bert_folder, texts: list[str]) -> None:
    encoder = load_encoder(EncoderConfig(model=str(bert_folder), dimension=8))
    np.testing.assert_allclose(
        CompiledEncoder(encoder, "item", 1).encode(texts), encoder.encode(texts, "item"), atol=2e-5
    )


def test_auto_converts_only_for_a_large_catalogue(bert: Encoder, monkeypatch: pytest.MonkeyPatch, texts) -> None:
    made = []

    class Spy(CompiledEncoder):
        def __init__(self, *args) -> None:
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr("taoemb.encoder.compiled.CompiledEncoder", Spy)
    bulk_embedder(bert, "item", bulk.WORTH_CONVERTING - 1)(texts, None)
    assert not made
    bulk_embedder(bert, "item", bulk.WORTH_CONVERTING)(texts, None)
    assert len(made) == 1
    bert.bulk_backend = "torch"
    bulk_embedder(bert, "item", bulk.WORTH_CONVERTING)(texts, None)
    assert len(made) == 1
    bert.bulk_backend = "openvino"
    bulk_embedder(bert, "item", 1)(texts, None)
    assert len(made) == 2


class Stubborn(nn.Module):
    """A backbone whose way depends on how many texts it gets, which a trace of two texts can't hold."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        hidden_NTD = self.inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return BaseModelOutput(last_hidden_state=hidden_NTD if len(input_ids) == 2 else -hidden_NTD)


def test_a_model_that_a_trace_cannot_hold_is_noticed(bert: Encoder, texts: list[str], capsys) -> None:
    bert.backbone = Stubborn(bert.backbone)
    bert.bulk_backend = "openvino"
    with pytest.raises(InputError, match=r"encoder\.bulk_backend openvino: .*use encoder\.bulk_backend=torch") as error:
        bulk_embedder(bert, "item", 1)
    assert "\n" not in str(error.value)
    bert.bulk_backend = "auto"
    vectors_ND = bulk_embedder(bert, "item", bulk.WORTH_CONVERTING)(texts, None)
    assert "embedding with torch: encoder.bulk_backend openvino" in capsys.readouterr().err
    np.testing.assert_array_equal(vectors_ND, bert.encode(texts, "item"))


def test_without_openvino_auto_takes_torch_and_openvino_is_refused(bert: Encoder, monkeypatch, texts) -> None:
    monkeypatch.setattr(bulk.importlib.util, "find_spec", lambda name: None)
    vectors_ND = bulk_embedder(bert, "item", bulk.WORTH_CONVERTING)(texts, None)
    np.testing.assert_array_equal(vectors_ND, bert.encode(texts, "item"))
    bert.bulk_backend = "openvino"
    with pytest.raises(InputError, match=r"bulk_backend openvino: not installed"):
        bulk_embedder(bert, "item", 1)


def test_converting_changes_nothing_about_the_encoder(bert: Encoder) -> None:
    bert.train()
    before = {name: value.clone() for name, value in bert.state_dict().items()}
    spec = dataclasses.asdict(bert.spec)
    CompiledEncoder(bert, "item", 1)
    assert bert.training
    assert bert.precision == "fp32"
    assert dataclasses.asdict(bert.spec) == spec
    assert all(torch.equal(value, before[name]) for name, value in bert.state_dict().items())
