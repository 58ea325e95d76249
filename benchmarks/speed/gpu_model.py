"""What the GPU benchmark trains: an encoder of a given shape with random weights, its texts, and what a pass costs.

Nothing is downloaded: speed depends on shapes and lengths, not on what the weights have learned.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from taoemb.encoder.batching import TokenBatch
from taoemb.encoder.model import BulkPrecision, Encoder, EncoderSpec

WORDS = 20_000
PEAK_TFLOPS = {  # dense bf16 with float32 accumulation, from the vendor's data sheets; the first that matches counts
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H200": 989,
    "H800": 989,
    "B200": 2250,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
}


@dataclass(frozen=True)
class Shape:
    """A Qwen3 decoder; the defaults are those of Qwen3-Embedding-0.6B."""

    hidden: int = 1024
    layers: int = 28
    heads: int = 16
    kv_heads: int = 8
    head_dim: int = 128
    intermediate: int = 3072
    vocabulary: int = 151_936

    def matrix_parameters(self) -> int:
        """Weights that every token is multiplied by (no embedding, no norms)."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    def forward_flops(self, tokens: int, squares: int) -> float:
        """FLOPs of a forward pass over texts with `tokens` real tokens, `squares` the sum of their squared lengths.

        2 per weight and token; attention: QKᵀ and its product with V, 2 · T² · heads · head_dim each, half of it under
        the causal mask (as in the appendix of the PaLM paper, arXiv 2204.02311). Padding does no useful work.
        """
        attention = 2 * self.layers * self.heads * self.head_dim * squares
        return 2.0 * self.matrix_parameters() * tokens + attention


TINY = Shape(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, intermediate=128, vocabulary=WORDS + 2)


@dataclass
class Meter:
    """Counts what passes through an encoder; training counts three times (the backward pass is two forward passes)."""

    shape: Shape
    tokens: int = 0
    padded: int = 0
    flops: float = 0.0

    def watch(self, encoder: Encoder) -> None:
        """Count every pass of the encoder from now on."""
        encoder.register_forward_pre_hook(lambda _module, inputs: self.add(inputs[0]))

    def add(self, batches: list[TokenBatch]) -> None:
        """Count one call."""
        times = 3 if torch.is_grad_enabled() else 1
        for batch in batches:
            lengths = batch.mask_NT.sum(1)
            tokens, squares = int(lengths.sum()), int(lengths.square().sum())
            self.tokens += tokens
            self.padded += batch.mask_NT.numel()
            self.flops += times * self.shape.forward_flops(tokens, squares)

    def reset(self) -> None:
        """Begin anew."""
        self.tokens, self.padded, self.flops = 0, 0, 0.0


def new_encoder(
    shape: Shape, device: torch.device, *, precision: BulkPrecision = "auto", compiled: bool = False
) -> Encoder:
    """A decoder with random float32 weights and last-token pooling, on the device."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        max_position_embeddings=4096,
        use_cache=False,
    )
    with device:
        backbone = Qwen3Model(config)
    spec = EncoderSpec("random", "last", shape.hidden, max_query_tokens=64, max_item_tokens=128)
    encoder = Encoder(spec, backbone, _tokenizer(), precision=precision).to(device).eval()
    if compiled:
        encoder.compile_layers()
    return encoder


def _tokenizer() -> PreTrainedTokenizerFast:
    """A word is a token; every text ends with the end token, as with Qwen3-Embedding."""
    vocabulary = {"<end>": 0, "<unknown>": 1} | {f"w{word}": word + 2 for word in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")


def texts(count: int, mean: float, longest: int, seed: int) -> list[str]:
    """Texts whose lengths in words are log-normal, as titles with and without descriptions are."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(mean), 0.5, count).astype(int), 1, longest - 1)
    words = rng.integers(0, WORDS, int(lengths.sum()))
    parts = np.split(words, np.cumsum(lengths)[:-1])
    return [" ".join(f"w{word}" for word in part) for part in parts]


def write_shop(folder: Path, items: int, queries: int) -> Path:
    """Items of about 64 tokens, queries of about 8, one pair a query."""
    folder.mkdir(parents=True)
    ids = [f"i{row}" for row in range(items)], [f"q{row}" for row in range(queries)]
    slices = pa.array([[]] * queries, pa.list_(pa.string()))
    item_table = {"item_id": ids[0], "title": texts(items, 64, 128, 1)}
    query_table = {"query_id": ids[1], "text": texts(queries, 8, 64, 2), "slices": slices}
    weights = pa.array([1.0] * queries, pa.float32())
    pair_table = {"query_id": ids[1], "item_id": [ids[0][row % items] for row in range(queries)], "weight": weights}
    for name, table in (("items", item_table), ("queries", query_table), ("pairs", pair_table)):
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return folder


def peak_flops(device: torch.device) -> tuple[str, float | None]:
    """The device's name and its dense bf16 peak in FLOP/s; None where it is not in the table above."""
    if device.type != "cuda":
        return "CPU", None
    name = torch.cuda.get_device_name(device)
    found = next((tflops for part, tflops in PEAK_TFLOPS.items() if part in name), None)
    return name, None if found is None else found * 1e12
