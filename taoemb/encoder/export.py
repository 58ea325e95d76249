"""An encoder as a sentence-transformers folder: `SentenceTransformer(folder)` gives the vectors that we give."""

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from taoemb.config import LoraConfig
from taoemb.encoder.model import Encoder, backbone_width, quiet_transformers
from taoemb.errors import InputError

if TYPE_CHECKING:
    from peft import PeftModel

_BACKBONE = "backbone."
_ADAPTED = "base_model.model."
_MODULES = "sentence_transformers.models"
_POOLING_KEYS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}


def write_encoder(
    folder: Path, encoder: Encoder, max_tokens: int, state_dict: Mapping[str, Tensor] | None = None
) -> None:
    """Write weights (float32, adapters merged), tokenizer and the sentence-transformers files into `folder`.

    `state_dict` replaces the module's own weights. Raises InputError when weights are missing from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = _plain_model(encoder)
    with quiet_transformers(), redirect_stdout(sys.stderr):  # saving imports DeepSpeed, which logs to standard output
        model.save_pretrained(folder, state_dict=_weights(encoder, state_dict), max_shard_size="1000GB")
    _write_json(folder / "config.json", _read_json(folder / "config.json") | {"dtype": "float32"})
    _write_tokenizer(folder, encoder)
    _write_modules(folder, encoder, backbone_width(model.config), max_tokens)


def _plain_model(encoder: Encoder) -> PreTrainedModel:
    """The model without its adapters' wrapper."""
    if encoder.lora is None:
        return encoder.backbone
    return cast(PreTrainedModel, cast("PeftModel", encoder.backbone).get_base_model())


def _weights(encoder: Encoder, state_dict: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    own = encoder.state_dict()
    state = own if state_dict is None else state_dict
    absent = sorted(own.keys() - state.keys())
    if absent:
        raise InputError(f"weights of the encoder are incomplete: {absent[0]} and {len(absent) - 1} more are missing")
    weights = {name.removeprefix(_BACKBONE): state[name].detach().float().cpu() for name in own}
    if encoder.lora is not None:
        weights = _merge_adapters(encoder.lora, weights)
    return {name: value.contiguous() for name, value in weights.items()}


def _merge_adapters(lora: LoraConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """W + (alpha / rank) · B A for each adapted layer (LoRA, arXiv 2106.09685, section 4.1), by the layer's name."""
    scale = lora.alpha / lora.rank
    merged: dict[str, Tensor] = {}
    for name, value in weights.items():
        if ".lora_" in name:
            continue
        layer, base, kind = name.rpartition(".base_layer.")
        if base and kind == "weight":
            up, down = weights[f"{layer}.lora_B.default.weight"], weights[f"{layer}.lora_A.default.weight"]
            value = value + scale * (up @ down)
        merged[name.replace(".base_layer.", ".").removeprefix(_ADAPTED)] = value
    return merged


def _write_tokenizer(folder: Path, encoder: Encoder) -> None:
    tokenizer = encoder.tokenizer
    if isinstance(tokenizer, PreTrainedTokenizerFast):  # limits belong to the spec, not to whoever tokenised last
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)


def _write_modules(folder: Path, encoder: Encoder, width: int, max_tokens: int) -> None:
    spec = encoder.spec
    names = ["Transformer", "Pooling", "Normalize"]
    if spec.dimension < width:
        names.insert(2, "Dense")
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{name}" if i else "", "type": f"{_MODULES}.{name}"}
        for i, name in enumerate(names)
    ]
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    pooling = {key: key == _POOLING_KEYS[spec.pooling] for key in (*_POOLING_KEYS.values(), "pooling_mode_max_tokens")}
    (folder / "1_Pooling").mkdir()
    _write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": width, **pooling})
    if spec.dimension < width:
        _write_cut(folder / "2_Dense", width, spec.dimension)
    prompts = {"query": encoder.query_template.prefix, "document": encoder.item_template.prefix}
    settings = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write_json(folder / "config_sentence_transformers.json", settings)


def _write_cut(folder: Path, width: int, dimension: int) -> None:
    """The first `dimension` coordinates as a projection, because vectors are cut before they are normalised."""
    folder.mkdir()
    save_file({"linear.weight": torch.eye(dimension, width)}, folder / "model.safetensors")
    settings = {"in_features": width, "out_features": dimension, "bias": False}
    _write_json(folder / "config.json", settings | {"activation_function": "torch.nn.modules.linear.Identity"})


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, tree: Any) -> None:
    path.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
