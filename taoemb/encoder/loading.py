"""Weights, tokenizer and settings of a found model, put together to an encoder."""

from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from taoemb.config import EncoderConfig, LoraConfig
from taoemb.encoder.manifest import Pooling
from taoemb.encoder.model import Encoder, EncoderSpec, backbone_width, quiet_transformers
from taoemb.encoder.sources import ModelSource, find_model
from taoemb.encoder.text import ITEM_TEMPLATE
from taoemb.errors import InputError

_POOLER = "pooler"  # BERT's does not reach the vectors: no gradient, no adapters, no optimiser state
_UNLIMITED = 1_000_000  # tokenizers without a limit say 1e30
_UNREADABLE = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)


def load_encoder(config: EncoderConfig, device: str | torch.device = "cpu") -> Encoder:
    """The encoder that `config.model` names: a release, a sentence-transformers or Hugging Face folder, a hub id, or
    the packaged default.

    What the config leaves open comes from the model's own files. Raises InputError when the model is not there, not
    usable, or the settings do not fit it.
    """
    return load(find_model(config.model, None if config.pooling == "auto" else config.pooling), config).to(device)


def load(source: ModelSource, config: EncoderConfig) -> Encoder:
    """The encoder in `source.folder`; what `config` sets wins over what the model says about itself."""
    try:
        model_config = AutoConfig.from_pretrained(source.folder, trust_remote_code=config.trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=config.trust_remote_code)
    except _UNREADABLE as error:
        raise _unusable(source.folder, error) from error
    spec = _spec(source, config, model_config, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    backbone = _backbone(source.folder, config, model_config)
    encoder = Encoder(
        spec,
        backbone,
        tokenizer,
        tokens_per_batch=config.tokens_per_batch,
        precision=config.precision,
        bulk_backend=config.bulk_backend,
        lora=config.lora,
    ).eval()
    if config.compile:
        encoder.compile_layers()
    return encoder


def _backbone(folder: Path, config: EncoderConfig, model_config: PretrainedConfig) -> PreTrainedModel:
    model_config.use_cache = False  # a key-value cache is of no use to an encoder
    options = {} if config.attention is None else {"attn_implementation": config.attention}
    try:
        with quiet_transformers():
            backbone = AutoModel.from_pretrained(
                folder,
                config=model_config,
                dtype=torch.float32,
                trust_remote_code=config.trust_remote_code,
                **options,
            )
    except _UNREADABLE as error:
        raise _unusable(folder, error) from error
    for name, child in backbone.named_children():
        if name == _POOLER:
            child.requires_grad_(False)
    return backbone if config.lora is None else _with_adapters(backbone, config.lora)


def _with_adapters(backbone: PreTrainedModel, lora: LoraConfig) -> PreTrainedModel:
    import peft

    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,  # dropout is off in every objective (docs/decisions.md)
        target_modules=targets,
        exclude_modules=rf"{_POOLER}\..*" if _POOLER in dict(backbone.named_children()) else None,
        task_type=peft.TaskType.FEATURE_EXTRACTION,
    )
    try:
        return cast(PreTrainedModel, peft.get_peft_model(backbone, settings))  # it passes everything on
    except ValueError as error:
        raise InputError(f"encoder.lora.target_modules {lora.target_modules!r}: {error}") from None


def _spec(
    source: ModelSource, config: EncoderConfig, model_config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> EncoderSpec:
    if model_config.is_encoder_decoder:
        kind = model_config.model_type
        raise InputError(f"encoder.model: {kind} is an encoder-decoder; use a BERT-like model or a decoder LLM")
    width = backbone_width(model_config)
    dimension = config.dimension or source.dimension or width
    if dimension > width:
        raise InputError(f"encoder.dimension {dimension}: {source.base_model} gives only {width} dimensions")
    limit = _token_limit(model_config, tokenizer)
    meant = min(source.token_limit or limit, limit)
    return EncoderSpec(
        base_model=source.base_model,
        pooling=source.pooling or _natural_pooling(model_config),
        dimension=dimension,
        query_template=config.query_template or source.query_template or "{text}",
        item_template=config.item_template or source.item_template or ITEM_TEMPLATE,
        max_query_tokens=_tokens(
            "max_query_tokens", config.max_query_tokens, source.max_query_tokens, 64, meant, limit
        ),
        max_item_tokens=_tokens("max_item_tokens", config.max_item_tokens, source.max_item_tokens, 128, meant, limit),
    )


def _tokens(name: str, asked: int | None, own: int | None, usual: int, meant: int, limit: int) -> int:
    if asked is not None and asked > limit:
        raise InputError(f"encoder.{name} {asked}: the model reads at most {limit} tokens")
    return asked or own or min(usual, meant)


def _token_limit(model_config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    try:
        positions = int(model_config.get_text_config().max_position_embeddings)
    except AttributeError:  # a model without a table of positions
        positions = _UNLIMITED
    return int(min(positions, tokenizer.model_max_length, _UNLIMITED))


def _natural_pooling(model_config: PretrainedConfig) -> Pooling:
    """Last token for models that read left to right, mean for the others."""
    kind = model_config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "last" if causal else "mean"


def _unusable(folder: Path, error: BaseException) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"encoder.model {str(folder)!r}: cannot be loaded ({type(error).__name__}: {reason})")
