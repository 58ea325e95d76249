"""The encoder: the same vectors however texts are batched, for both kinds of model, with gradient and without."""

import copy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from taoemb.config import EncoderConfig, LoraConfig
from taoemb.encoder.batching import TokenBatch
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.model import Encoder
from taoemb.errors import InputError
from taoemb.progress import Progress

BOTH = pytest.mark.parametrize("name", ["bert", "qwen"])


@BOTH
def test_vectors_are_normalised_and_float32(name: str, request: pytest.FixtureRequest, texts: list[str]) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    vectors = encoder.encode(texts, "query")
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), encoder.spec.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.ptp(vectors @ vectors.T) > 0.05, "a random model tells texts apart"


@BOTH
def test_a_vector_does_not_depend_on_its_batch(name: str, request, texts: list[str], assert_close) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    together = encoder.encode(texts, "item")
    assert_close(np.concatenate([encoder.encode([text], "item") for text in texts]), together)
    encoder.tokens_per_batch = 24
    assert len(encoder.tokenize(texts, "item")) > 2
    assert_close(encoder.encode(texts, "item"), together)
    assert_close(encoder.encode(texts[::-1], "item")[::-1], together)


@BOTH
@pytest.mark.parametrize("buckets", [1, 2, 3, 99])
def test_forward_in_buckets_equals_encode(name: str, buckets: int, request, texts, assert_close) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    batches = encoder.tokenize(texts, "query", buckets=buckets)
    assert len(batches) == min(buckets, len(texts))
    vectors = encoder(batches)
    assert vectors.requires_grad
    assert vectors.dtype == torch.float32
    assert_close(vectors.detach().numpy(), encoder.encode(texts, "query"))


@BOTH
def test_queries_and_items_in_one_pool_are_as_apart(name: str, request, texts: list[str], assert_close) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    batches = encoder.tokenize_both(texts[:3], texts, buckets=4)
    assert len(batches) == 4
    together = encoder(batches).detach().numpy()
    assert_close(together[:3], encoder.encode(texts[:3], "query"))
    assert_close(together[3:], encoder.encode(texts, "item"))


@BOTH
def test_the_gradient_does_not_depend_on_the_batches(name: str, request, texts: list[str]) -> None:
    """One lookup serves several batches; its gradient is the one that a single batch gives."""
    encoder: Encoder = request.getfixturevalue(name)
    direction = torch.randn(len(texts), encoder.spec.dimension, generator=torch.Generator().manual_seed(0))
    gradients = []
    for buckets in (1, 4):
        encoder.zero_grad()
        (encoder(encoder.tokenize(texts, "query", buckets)) * direction).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None})
    one, several = gradients
    assert one.keys() == several.keys()
    for parameter in one:
        torch.testing.assert_close(several[parameter], one[parameter], atol=2e-5, rtol=1e-4)


def test_left_padding_gives_the_same_vectors(qwen: Encoder, texts: list[str], assert_close) -> None:
    """A batch that someone else padded on the left, as decoders often are, is pooled where its last token stands."""
    (batch,) = qwen.tokenize(texts, "query", buckets=1)
    shift = (1 - batch.mask_NT).sum(1)
    rows = range(len(texts))
    left = TokenBatch(
        torch.stack([batch.input_ids_NT[i].roll(int(shift[i])) for i in rows]),
        torch.stack([batch.mask_NT[i].roll(int(shift[i])) for i in rows]),
        batch.order,
    )
    assert left.mask_NT[0, 0] == 0
    assert_close(qwen([left]).detach().numpy(), qwen.encode(texts, "query"))


def test_no_texts(bert: Encoder) -> None:
    assert bert.encode([], "query").shape == (0, bert.spec.dimension)
    assert bert.tokenize([], "query", buckets=2) == []
    assert bert([]).shape == (0, bert.spec.dimension)


@BOTH
def test_empty_and_odd_texts_have_finite_vectors(name: str, request) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    vectors = encoder.encode(["", " ", "\n\0", "日本語 🙂"], "query")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_without_any_token_has_a_vector(bert_folder: Path) -> None:
    encoder = load_encoder(EncoderConfig(model=str(bert_folder)))
    fast = encoder._fast["query"]
    assert fast is not None
    fast.post_processor = None  # a tokenizer that adds nothing of its own
    assert encoder.tokenize([""], "query")[0].mask_NT.tolist() == [[1]]
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(["", "usb"], "query"), axis=1), 1, atol=1e-5)


def test_limits_per_kind(bert_folder: Path, texts: list[str]) -> None:
    encoder = load_encoder(EncoderConfig(model=str(bert_folder), max_query_tokens=6, max_item_tokens=9))
    widths = {kind: max(b.input_ids_NT.shape[1] for b in encoder.tokenize(texts, kind)) for kind in ("query", "item")}
    assert widths == {"query": 6, "item": 9}
    last = {int(row[-1]) for b in encoder.tokenize([texts[3]], "query") for row in b.input_ids_NT}
    assert last == {encoder.tokenizer.sep_token_id}, "the end token survives the cut"


def test_batches_are_cut_by_tokens(bert: Encoder, texts: list[str]) -> None:
    bert.tokens_per_batch = 64
    for batch in bert.tokenize(texts * 5, "item"):
        assert batch.input_ids_NT.numel() <= 64
        assert batch.mask_NT.sum(1).max() == batch.input_ids_NT.shape[1], "no column is padding alone"


def test_token_ids_are_the_tokenizers(bert: Encoder, qwen: Encoder, texts: list[str]) -> None:
    for encoder in (bert, qwen):
        limit = encoder.spec.max_query_tokens
        expected = encoder.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        assert encoder._token_ids(texts, "query") == expected


def test_a_tokenizer_in_python_works_too(bert: Encoder, texts: list[str], assert_close) -> None:
    expected = bert.encode(texts, "query")
    bert._fast = {"query": None, "item": None}
    assert_close(bert.encode(texts, "query"), expected)


def test_query_template_is_applied_to_queries_only(qwen_folder: Path, texts: list[str], assert_close) -> None:
    template = "Instruct: Given a shopping query, find the item\nQuery:{text}"
    plain = load_encoder(EncoderConfig(model=str(qwen_folder), max_query_tokens=200, max_item_tokens=200))
    instructed = load_encoder(
        EncoderConfig(model=str(qwen_folder), query_template=template, max_query_tokens=200, max_item_tokens=200)
    )
    rendered = [template.replace("{text}", text) for text in texts]
    assert_close(instructed.encode(texts, "query"), plain.encode(rendered, "query"))
    assert_close(instructed.encode(texts, "item"), plain.encode(texts, "item"))


def test_bfloat16_stays_close_and_is_not_float32(bert_folder: Path, texts: list[str]) -> None:
    exact = load_encoder(EncoderConfig(model=str(bert_folder))).encode(texts, "item")
    rough = load_encoder(EncoderConfig(model=str(bert_folder), precision="bf16")).encode(texts, "item")
    cosines = (exact * rough).sum(1)
    assert cosines.min() > 0.99
    assert not np.array_equal(exact, rough)


def test_encode_does_not_disturb_training(bert: Encoder, texts: list[str]) -> None:
    bert.train()
    first, second = bert.encode(texts, "query"), bert.encode(texts, "query")
    assert np.array_equal(first, second), "no dropout"
    assert bert.training
    assert bert.backbone.training
    dropped = bert(bert.tokenize(texts, "query", 2)).detach().numpy()
    assert not np.allclose(dropped, first, atol=1e-3), "forward leaves dropout to the caller"


def test_progress_counts_texts(bert: Encoder, texts: list[str]) -> None:
    bar = Progress("encode", len(texts))
    bert.tokens_per_batch = 24
    bert.encode(texts, "query", bar)
    assert bar.done == len(texts)


@pytest.mark.parametrize("checkpointing", [False, True])
@BOTH
def test_gradients_reach_the_backbone(name: str, checkpointing: bool, request, texts: list[str]) -> None:
    encoder: Encoder = request.getfixturevalue(name)
    reference = copy.deepcopy(encoder).train()
    for module in (*reference.modules(), *encoder.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if checkpointing:
        encoder.enable_gradient_checkpointing()
        assert encoder.backbone.is_gradient_checkpointing
    encoder.train()
    weights = torch.linspace(-1, 1, encoder.spec.dimension)
    (encoder(encoder.tokenize(texts, "query", 2)) @ weights).sum().backward()
    (reference(reference.tokenize(texts, "query", 1)) @ weights).sum().backward()
    pairs = list(zip(encoder.named_parameters(), reference.parameters(), strict=True))
    for (key, ours), theirs in pairs:
        if ours.requires_grad:
            assert ours.grad is not None, key
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3)
        else:
            assert "pooler" in key, "only what cannot reach the vectors is frozen"


@pytest.mark.parametrize(("name", "dimension"), [("bert_folder", 16), ("qwen_folder", 8)])
def test_matryoshka_cuts_then_normalises(name: str, dimension: int, request, texts, assert_close) -> None:
    folder = request.getfixturevalue(name)
    full = load_encoder(EncoderConfig(model=str(folder))).encode(texts, "query")[:, :dimension]
    cut = load_encoder(EncoderConfig(model=str(folder), dimension=dimension)).encode(texts, "query")
    assert_close(cut, full / np.linalg.norm(full, axis=1, keepdims=True))


@BOTH
def test_lora_trains_adapters_alone(name: str, request, texts: list[str], assert_close) -> None:
    folder = request.getfixturevalue(f"{name}_folder")
    plain: Encoder = request.getfixturevalue(name)
    adapted = load_encoder(EncoderConfig(model=str(folder), lora=LoraConfig(rank=2)))
    assert_close(adapted.encode(texts, "query"), plain.encode(texts, "query"))  # B starts at zero
    trainable = [key for key, value in adapted.named_parameters() if value.requires_grad]
    assert trainable
    assert all(".lora_" in key and "pooler" not in key for key in trainable)
    adapted.enable_gradient_checkpointing()
    adapted.train()
    adapted(adapted.tokenize(texts, "query", 2))[:, 0].sum().backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)


def test_lora_without_targets(bert_folder: Path) -> None:
    lora = LoraConfig(target_modules=("no_such_layer",))
    with pytest.raises(InputError, match=r"encoder\.lora\.target_modules.*no_such_layer"):
        load_encoder(EncoderConfig(model=str(bert_folder), lora=lora))


def test_threads_share_an_encoder(bert: Encoder, texts: list[str]) -> None:
    """Queries and items have different limits; a server tokenises both at once."""
    expected = {kind: bert.encode(texts, kind) for kind in ("query", "item")}
    wrong: list[str] = []

    def work(kind: str) -> None:
        for _ in range(20):
            if not np.allclose(bert.encode(texts, kind), expected[kind], atol=1e-5):
                wrong.append(kind)

    threads = [threading.Thread(target=work, args=(kind,)) for kind in ("query", "item") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_copy_is_independent(bert: Encoder, texts: list[str]) -> None:
    """A frozen reference policy is a deep copy."""
    before = bert.encode(texts, "query")
    reference = copy.deepcopy(bert)
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.add_(0.1)
    assert np.array_equal(reference.encode(texts, "query"), before)
    assert not np.allclose(bert.encode(texts, "query"), before, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.9999), ("bf16", 0.99)])
def test_on_a_gpu(bert_folder: Path, texts: list[str], precision: str, least: float) -> None:
    here = load_encoder(EncoderConfig(model=str(bert_folder))).encode(texts, "query")
    there = load_encoder(EncoderConfig(model=str(bert_folder), precision=precision), device="cuda")
    assert there.encode_tensor(texts, "query").is_cuda
    assert (there.encode(texts, "query") * here).sum(1).min() > least


@BOTH
@pytest.mark.slow
def test_compiled_layers_give_the_same_vectors_and_gradients(name: str, request, texts: list[str], assert_close):
    """With dynamo's own tracing but no code generation, which takes a minute and a compiler."""
    plain: Encoder = request.getfixturevalue(name)
    compiled = copy.deepcopy(plain)
    compiled.compile_layers(backend="aot_eager")
    assert compiled.compiled
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled.tokens_per_batch = plain.tokens_per_batch = 24
    assert_close(compiled.encode(texts, "item"), plain.encode(texts, "item"))
    for encoder in (plain, compiled):
        encoder(encoder.tokenize(texts, "query", 2))[:, 0].sum().backward()
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 6, (
        "one for all layers and shapes, with and without gradient"
    )
