"""Every backend gives torch's vectors, or refuses to serve."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from taoemb.config import EncoderServerConfig
from taoemb.encoder.hardware import has_bf16
from taoemb.encoder.release import Release
from taoemb.errors import InputError
from taoemb.serving.encoder.check import CHECK_TEXTS, check_agreement
from taoemb.serving.encoder.graph import graph
from taoemb.serving.encoder.load import load_query_model
from tests.serving.encoder_releases import TEXTS, bert_release, decoder_release

needs_bf16 = pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="bf16: a CPU with AVX512-BF16 or AMX")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    folder = tmp_path_factory.mktemp("releases")
    return {"bert": bert_release(folder), "decoder": decoder_release(folder)}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


def load(release: Release, backend: str, precision: str, graphs: Path | None, **settings: object):
    tree = {"backend": backend, "precision": precision, "graphs": graphs, "threads": 1, "batch_texts": 8, **settings}
    return load_query_model(release.path, EncoderServerConfig.model_validate(tree))


@pytest.mark.parametrize(
    ("backend", "precision", "least"),
    [
        ("torch", "fp32", 1 - 1e-5),
        ("onnxruntime", "fp32", 1 - 1e-5),
        ("openvino", "fp32", 1 - 1e-5),
        ("onnxruntime", "int8", 0.99),
        ("openvino", "int8", 0.99),
        pytest.param("torch", "bf16", 0.99, marks=needs_bf16),
        pytest.param("openvino", "bf16", 0.99, marks=needs_bf16),
    ],
)
@pytest.mark.parametrize("kind", ["bert", "decoder"])
def test_all_backends_give_torchs_vectors(
    releases: dict[str, Release], graphs: Path, kind: str, backend: str, precision: str, least: float
) -> None:
    release = releases[kind]
    model = load(release, backend, precision, graphs)
    assert (model.digest, model.dimension) == (release.manifest.digest, release.manifest.dimension)
    expected_ND = release.query_encoder().encode(TEXTS, "query")
    embedded = model.embed(TEXTS)
    assert embedded.vectors_ND.dtype == np.float32
    assert ((embedded.vectors_ND * expected_ND).sum(1) >= least).all()
    assert model.min_cosine >= least
    one_by_one = np.concatenate([model.embed([text]).vectors_ND for text in TEXTS])
    assert ((one_by_one * expected_ND).sum(1) >= least).all()  # the company in a pass does not matter


def test_tokens_and_padding_are_counted(releases: dict[str, Release]) -> None:
    embedded = load(releases["bert"], "torch", "fp32", None).embed(["red sofa", "", "blue oak lamp " * 20])
    assert embedded.tokens_N.tolist() == [6, 4, 32]  # [CLS] query : … [SEP], cut to 32
    assert embedded.padding == 2  # "" with "red sofa", the long one alone


def test_a_kept_graph_is_used_again_and_nothing_else_is_left(releases: dict[str, Release], tmp_path: Path) -> None:
    load(releases["bert"], "onnxruntime", "fp32", tmp_path)
    [place] = (tmp_path / releases["bert"].manifest.digest).iterdir()
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    load(releases["bert"], "openvino", "fp32", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == before
    assert list((tmp_path / releases["bert"].manifest.digest).iterdir()) == [place]


def test_a_kept_graph_of_other_weights_is_refused(tmp_path: Path) -> None:
    one, other = bert_release(tmp_path / "one", seed=1), bert_release(tmp_path / "other", seed=2)
    load(one, "onnxruntime", "fp32", tmp_path / "graphs")
    (tmp_path / "graphs" / one.manifest.digest).rename(tmp_path / "graphs" / other.manifest.digest)
    with pytest.raises(InputError, match=r"onnxruntime fp32: cosine .* on '.*' is below .*min_cosine 0\.99"):
        load(other, "onnxruntime", "fp32", tmp_path / "graphs")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("damage", [b"", b"not a graph"])
def test_a_damaged_graph_is_told_in_one_line(
    releases: dict[str, Release], tmp_path: Path, backend: str, damage: bytes
) -> None:
    digest = releases["bert"].manifest.digest
    place = tmp_path / digest / "graph-1-fp32"
    place.mkdir(parents=True)
    (place / "encoder.onnx").write_bytes(damage)
    with pytest.raises(InputError, match=r"encoder\.onnx: can't be read \(.*delete its folder") as error:
        load(releases["bert"], backend, "fp32", tmp_path)
    assert "\n" not in str(error.value)


def test_a_limit_that_int8_cannot_meet_refuses_in_one_line(releases: dict[str, Release], graphs: Path) -> None:
    with pytest.raises(InputError, match=r"openvino int8: cosine 0\.\d+ .*choose another") as refusal:
        load(releases["bert"], "openvino", "int8", graphs, min_cosine=1)
    assert "\n" not in str(refusal.value)


def test_vectors_that_are_no_numbers_are_refused() -> None:
    good_ND = np.eye(len(CHECK_TEXTS), dtype=np.float32)
    bad_ND = good_ND.copy()
    bad_ND[3] = np.nan
    assert check_agreement(good_ND, good_ND, 1.0, "x") == 1.0
    with pytest.raises(InputError, match=re.escape(repr(CHECK_TEXTS[3][:40]))):
        check_agreement(good_ND, bad_ND, 0.0, "x")


@pytest.mark.parametrize(
    ("backend", "precision"), [("torch", "int8"), ("onnxruntime", "bf16")], ids=lambda value: str(value)
)
def test_a_precision_that_the_backend_lacks_is_bad_usage(tmp_path: Path, backend: str, precision: str) -> None:
    with pytest.raises(InputError, match=f"precision {precision}: {backend} computes in fp32 or"):
        load_query_model(tmp_path, EncoderServerConfig.model_validate({"backend": backend, "precision": precision}))


class Stubborn(nn.Module):
    """A backbone whose way depends on its numbers, which no graph can hold."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        hidden_NTD = self.inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return BaseModelOutput(last_hidden_state=hidden_NTD if hidden_NTD.sum() > 0 else -hidden_NTD)


def test_a_model_that_cannot_be_exported_is_refused_in_one_line(releases: dict[str, Release], tmp_path: Path) -> None:
    encoder = releases["bert"].query_encoder()
    encoder.backbone = Stubborn(encoder.backbone)
    refusal = r"a bert model can't be exported to ONNX \(.*\); use encoder_server\.backend=torch"
    with pytest.raises(InputError, match=refusal) as error, graph(encoder, "digest", "fp32", tmp_path):
        pytest.fail("there is no graph")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "digest").iterdir()) == []
