"""The text encoder: one class for training and for bulk embedding, for BERT-like models and decoder LLMs alike."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging

from taoemb.config import LoraConfig
from taoemb.encoder.attention import padded_on_the_right, reads_left_to_right
from taoemb.encoder.batching import TokenBatch, TokenTable, bucket_by_cost, bucket_by_count, bucket_by_tokens
from taoemb.encoder.hardware import has_bf16
from taoemb.encoder.manifest import Pooling
from taoemb.encoder.pooling import pool
from taoemb.encoder.text import ITEM_TEMPLATE, ItemTemplate, QueryTemplate
from taoemb.progress import Progress

Kind = Literal["query", "item"]
BulkPrecision = Literal["fp32", "bf16", "auto"]
BulkBackend = Literal["auto", "torch", "openvino"]
TEXTS_AT_ONCE = 16_384
TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 32_768}  # what fits a CPU's cache; what fills a GPU
CALL_TOKENS = {"cpu": 32, "cuda": 8192}  # what one more forward pass costs, in tokens of a pass


@dataclass(frozen=True)
class EncoderSpec:
    """What decides a vector beside the weights and the tokenizer; it goes into the release's digest."""

    base_model: str
    pooling: Pooling
    dimension: int
    """Length of the vectors; below the model's width they are cut (Matryoshka) before they are normalised."""
    query_template: str = "{text}"
    item_template: str = ITEM_TEMPLATE
    max_query_tokens: int = 64
    max_item_tokens: int = 128


class Encoder(nn.Module):
    """Texts to L2-normalised vectors, (N, `spec.dimension`) float32."""

    backbone: PreTrainedModel
    _place: Tensor

    def __init__(
        self,
        spec: EncoderSpec,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        tokens_per_batch: int | None = None,
        precision: BulkPrecision = "fp32",
        bulk_backend: BulkBackend = "auto",
        lora: LoraConfig | None = None,
    ) -> None:
        """`backbone` gives `last_hidden_state`; `tokens_per_batch` (None: by device), `precision` and `bulk_backend`
        (which `encoder.bulk` obeys) are for bulk work.

        `lora` describes the adapters when `backbone` is a peft model.
        """
        super().__init__()
        self.spec, self.backbone, self.tokenizer = spec, backbone, tokenizer
        self.tokens_per_batch, self.precision, self.lora = tokens_per_batch, precision, lora
        self.bulk_backend = bulk_backend
        self.compiled = False
        self.query_template = QueryTemplate(spec.query_template)
        self.item_template = ItemTemplate(spec.item_template)
        self._limits: dict[Kind, int] = {"query": spec.max_query_tokens, "item": spec.max_item_tokens}
        self._fast = {kind: _fast_tokenizer(tokenizer, limit) for kind, limit in self._limits.items()}
        self._pad_id = int(tokenizer.pad_token_id or 0)
        self._takes_embeddings = "inputs_embeds" in inspect.signature(type(backbone).forward).parameters
        self._left_to_right = reads_left_to_right(backbone.config)
        # Moves with .to(): tells the device without touching parameters, which ZeRO-3 may hold elsewhere.
        self.register_buffer("_place", torch.zeros(1, dtype=torch.int64), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._place.device

    @property
    def bf16(self) -> bool:
        """Whether bulk work computes in bf16 here."""
        return self.precision == "bf16" or (self.precision == "auto" and has_bf16(self.device))

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile each layer for any batch shape: what stands between its matrix products becomes one kernel or two.

        Norms, rotary positions and gates move more memory than the matrix products of a small decoder take time. The
        first passes take a minute. Names of weights stay.
        """
        self.compiled = True
        for module in self.backbone.modules():
            if isinstance(module, GradientCheckpointingLayer):  # what transformers calls a layer
                module.compile(dynamic=True, backend=backend)

    def tokenize(self, texts: Sequence[str], kind: Kind, buckets: int | None = None) -> list[TokenBatch]:
        """Token batches of `texts`: exactly min(`buckets`, N) of them, or as many as `tokens_per_batch` asks for.

        Queries are raw (the query template is put around them here); items are already rendered by the item template.
        """
        if not texts:
            return []
        table = TokenTable(self._token_ids(texts, kind), self._pad_id)
        if buckets is None:
            budget = self.tokens_per_batch or TOKENS_PER_BATCH.get(self._place.device.type, TOKENS_PER_BATCH["cuda"])
            orders = bucket_by_tokens(table.lengths, budget)
        else:
            orders = bucket_by_count(table.lengths, buckets)
        return [table.batch(order) for order in orders]

    def tokenize_both(self, queries: Sequence[str], items: Sequence[str], buckets: int) -> list[TokenBatch]:
        """Exactly min(`buckets`, N) token batches of queries and items in one pool; `forward` gives queries first.

        One pool has fewer and better filled passes than two: a short item shares a pass with long queries.
        """
        ids = [*self._token_ids(queries, "query"), *self._token_ids(items, "item")]
        table = TokenTable(ids, self._pad_id)
        return [table.batch(order) for order in bucket_by_count(table.lengths, buckets)]

    def tokenize_online(self, texts: Sequence[str], kind: Kind) -> list[TokenBatch]:
        """Token batches of a few texts that are answered together, in the forward passes that cost least."""
        if not texts:
            return []
        table = TokenTable(self._token_ids(texts, kind), self._pad_id)
        cost = CALL_TOKENS.get(self._place.device.type, CALL_TOKENS["cuda"])
        return [table.batch(order) for order in bucket_by_cost(table.lengths, cost)]

    def forward(self, batches: Sequence[TokenBatch]) -> Tensor:
        """Vectors (N, D) float32 with gradient, in the order of the texts that were tokenised."""
        device = self.device
        if not batches:
            return torch.zeros(0, self.spec.dimension, device=device)
        order = np.concatenate([batch.order for batch in batches])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        looked_up = self._look_up(batches, device)
        parts = [self._embed(batch, device, rows_NTD) for batch, rows_NTD in zip(batches, looked_up, strict=True)]
        return torch.cat(parts)[_to_device(torch.from_numpy(back), device)]

    def encode(self, texts: Sequence[str], kind: Kind, progress: Progress | None = None) -> np.ndarray:
        """Vectors (N, D) float32 of any number of texts, without gradient or dropout; memory beyond them is bounded.

        Each process decides by itself how many forward passes it makes: under ZeRO-3 use `forward` with equal buckets.
        """
        vectors_ND = np.empty((len(texts), self.spec.dimension), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            chunk = texts[start : start + TEXTS_AT_ONCE]
            vectors_ND[start : start + len(chunk)] = self.encode_tensor(chunk, kind, progress).cpu().numpy()
        return vectors_ND

    @torch.no_grad()
    def encode_tensor(self, texts: Sequence[str], kind: Kind, progress: Progress | None = None) -> Tensor:
        """Like :meth:`encode` for texts that fit in memory at once; the vectors stay on the encoder's device."""
        device = self._place.device
        vectors_ND = torch.empty(len(texts), self.spec.dimension, device=device)
        training = self.training
        self.eval()
        try:
            with self._arithmetic(device):
                for batch in self.tokenize(texts, kind):
                    vectors_ND[_to_device(torch.from_numpy(batch.order), device)] = self._embed(batch, device)
                    if progress is not None:
                        progress.advance(len(batch.order))
        finally:
            self.train(training)
        return vectors_ND

    def _look_up(self, batches: Sequence[TokenBatch], device: torch.device) -> Sequence[Tensor | None]:
        """Word embeddings (N, T, width) of each batch from one lookup; None where the backbone may look up by itself.

        The gradient of a lookup is as large as the vocabulary's table, whatever the number of tokens: one of them is
        made and added instead of one a batch.
        """
        alone = len(batches) < 2 or not torch.is_grad_enabled() or self.lora is not None
        if alone or not self._takes_embeddings:
            return [None] * len(batches)
        ids_T = _to_device(torch.cat([batch.input_ids_NT.reshape(-1) for batch in batches]), device)
        rows_TD = self.backbone.get_input_embeddings()(ids_T)
        parts = rows_TD.split([batch.input_ids_NT.numel() for batch in batches])
        return [part.view(*batch.input_ids_NT.shape, -1) for part, batch in zip(parts, batches, strict=True)]

    def _embed(self, batch: TokenBatch, device: torch.device, rows_NTD: Tensor | None = None) -> Tensor:
        mask_NT = _to_device(batch.mask_NT, device)
        if rows_NTD is None:
            read = {"input_ids": _to_device(batch.input_ids_NT, device)}
        else:
            read = {"inputs_embeds": rows_NTD}
        unneeded = self._left_to_right and padded_on_the_right(batch)
        hidden_NTD = self.backbone(**read, attention_mask=None if unneeded else mask_NT).last_hidden_state
        pooled_ND = pool(hidden_NTD, mask_NT, self.spec.pooling)
        return F.normalize(pooled_ND[:, : self.spec.dimension], dim=-1)

    def _arithmetic(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def _token_ids(self, texts: Sequence[str], kind: Kind) -> list[list[int]]:
        read = [self.query_template.render(text) for text in texts] if kind == "query" else list(texts)
        fast = self._fast[kind]
        if fast is not None:
            return [encoding.ids for encoding in fast.encode_batch_fast(read)]
        return self.tokenizer(read, truncation=True, max_length=self._limits[kind])["input_ids"]


def backbone_width(model_config: PretrainedConfig) -> int:
    """Dimensions of the last hidden states."""
    return int(model_config.get_text_config().hidden_size)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars of transformers inside (loading and saving weights takes a moment, and we have our own)."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy to a GPU waits for what the GPU still does, unless the memory that it reads is pinned."""
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _fast_tokenizer(tokenizer: PreTrainedTokenizerBase, limit: int) -> Tokenizer | None:
    """A copy that truncates to `limit` for good, so that threads can share it; None for a tokenizer in Python."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    fast.no_padding()
    fast.enable_truncation(limit, direction=tokenizer.truncation_side)
    return fast
