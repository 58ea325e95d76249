"""The release folder: loads anywhere with the same vectors, and any change to it is noticed."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from taoemb.config import EncoderConfig, LoraConfig
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.manifest import item_digest, release_digest
from taoemb.encoder.model import Encoder
from taoemb.encoder.release import Release, bind_collection, collection_name, load_release, save_release
from taoemb.errors import InputError

QUERY = "Instruct: find the item\nQuery:{text}"


def make(folder: Path, **settings: Any) -> Encoder:
    return load_encoder(EncoderConfig(model=str(folder), **settings))


def shifted(encoder: Encoder) -> Encoder:
    """The same encoder after some training."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder


@pytest.fixture
def release(bert: Encoder, tmp_path: Path) -> Release:
    return save_release(tmp_path / "release", bert, training={"objective": "none"})


@pytest.mark.parametrize("dimension", [None, 16])
@pytest.mark.parametrize(
    ("name", "pooling"), [("bert_folder", "mean"), ("bert_folder", "cls"), ("qwen_folder", "last")]
)
def test_sentence_transformers_gives_the_same_vectors(
    name: str, pooling: str, dimension: int | None, tmp_path: Path, request, texts, assert_close
) -> None:
    folder = request.getfixturevalue(name)
    shape = {"pooling": pooling, "dimension": dimension, "max_query_tokens": 50, "max_item_tokens": 50}
    items = make(folder, item_template="passage: {title}", **shape)
    queries = shifted(make(folder, query_template=QUERY, item_template="passage: {title}", **shape))
    release = save_release(tmp_path / "release", queries, item_encoder=items)

    theirs = SentenceTransformer(str(release.path), device="cpu")
    ours = queries.encode(texts, "query")
    assert_close(theirs.encode(texts, prompt_name="query"), ours)
    assert_close(theirs.encode_query(texts), ours)
    assert_close(theirs.encode([QUERY.replace("{text}", text) for text in texts]), ours)

    theirs = SentenceTransformer(str(release.item_folder), device="cpu")
    rendered = [items.item_template.render({"title": text}) for text in texts]
    ours = items.encode(rendered, "item")
    assert_close(theirs.encode(rendered), ours)
    assert_close(theirs.encode_document(texts), ours)

    opened = load_release(release.path)
    assert_close(opened.query_encoder().encode(texts, "query"), queries.encode(texts, "query"), 1e-6)
    assert_close(opened.item_encoder().encode(rendered, "item"), ours, 1e-6)
    assert not opened.shared


def test_packaged_default_as_a_release(tmp_path: Path, texts: list[str], assert_close) -> None:
    encoder = load_encoder(EncoderConfig(max_item_tokens=64))
    release = save_release(tmp_path / "zero-shot", encoder)
    ours = encoder.encode(texts, "query")
    assert_close(SentenceTransformer(str(release.path), device="cpu").encode(texts), ours)
    assert (release.manifest.base_model, release.manifest.parent) == ("all-MiniLM-L6-v2", None)


def test_one_encoder_for_both(release: Release, bert: Encoder, texts: list[str], assert_close) -> None:
    assert release.shared
    assert release.item_folder == release.path
    assert load_release(release.path) == release
    assert_close(release.item_encoder().encode(texts, "item"), bert.encode(texts, "item"), 1e-6)
    again = save_release(release.path.parent / "again", bert, item_encoder=bert)
    assert again.shared
    assert again.manifest.digest == release.manifest.digest


def test_long_texts_are_cut_alike(bert_folder: Path, tmp_path: Path, assert_close) -> None:
    long = [" ".join(["red running shoes"] * n) for n in (3, 20, 200)]
    items = make(bert_folder, max_query_tokens=12, max_item_tokens=30)
    queries = make(bert_folder, max_query_tokens=12, max_item_tokens=30)
    release = save_release(tmp_path / "release", queries, item_encoder=items)
    for folder, encoder, kind in ((release.path, queries, "query"), (release.item_folder, items, "item")):
        theirs = SentenceTransformer(str(folder), device="cpu")
        assert_close(theirs.encode(long), encoder.encode(long, kind))


def test_files_are_those_of_a_sentence_transformers_folder(release: Release) -> None:
    assert set(release.manifest.files) == {
        "1_Pooling/config.json",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    tree = json.loads((release.path / "release.json").read_text())
    assert tree["training"] == {"objective": "none"}
    assert tree["collection"] is None
    assert list(release.path.parent.iterdir()) == [release.path], "no partial folder is left"


def test_digest_is_of_the_encoder_alone(bert_folder: Path, release: Release, tmp_path: Path, texts: list[str]) -> None:
    encoder = make(bert_folder)
    encoder.tokenizer(texts, truncation=True, max_length=7, padding="max_length")  # leaves its marks in the tokenizer
    other = save_release(tmp_path / "other", encoder, parent=release, training={"objective": "sft"})
    assert other.manifest.digest == release.manifest.digest
    assert other.manifest.parent == release.manifest.digest
    bound = bind_collection(other, "shop_1")
    assert bound.manifest.collection == load_release(other.path).manifest.collection == "shop_1"
    assert bound.manifest.digest == release.manifest.digest


@pytest.mark.parametrize(
    ("setting", "value", "items_too"),
    [
        ("query_template", "q: {text}", False),
        ("max_query_tokens", 32, False),
        ("item_template", "{title} {brand}", True),
        ("max_item_tokens", 32, True),
        ("pooling", "cls", True),
        ("dimension", 16, True),
    ],
)
def test_every_setting_is_in_the_digest(
    setting: str, value: Any, items_too: bool, bert_folder, release, tmp_path
) -> None:
    other = save_release(tmp_path / "other", make(bert_folder, **{setting: value})).manifest
    assert other.digest != release.manifest.digest
    assert (other.item_encoder_digest != release.manifest.item_encoder_digest) == items_too


def test_weights_and_tokenizer_are_in_both_digests(release: Release) -> None:
    manifest = release.manifest
    identity = vars(manifest)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        files = dict(manifest.files) | {name: "0" * 64}
        assert release_digest(files, identity) != manifest.digest
        assert item_digest(files, identity) != manifest.item_encoder_digest


def test_query_only_release_keeps_its_parents_item_encoder(
    release: Release, tmp_path: Path, texts: list[str], assert_close
) -> None:
    first = save_release(tmp_path / "1", shifted(release.query_encoder()), item_source=release, parent=release)
    second = save_release(tmp_path / "2", shifted(first.query_encoder()), item_source=first, parent=first)
    for child in (first, second):
        assert child.manifest.item_encoder_digest == release.manifest.item_encoder_digest
        assert (child.path / "item_encoder/model.safetensors").samefile(release.path / "model.safetensors")
        opened = load_release(child.path)
        assert_close(opened.item_encoder().encode(texts, "item"), release.item_encoder().encode(texts, "item"), 0)
    digests = {r.manifest.digest for r in (release, first, second)}
    assert len(digests) == 3
    assert second.manifest.parent == first.manifest.digest
    shutil.rmtree(release.path)
    load_release(second.path)


def test_where_no_hard_link_is_possible_files_are_copied(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    child = save_release(tmp_path / "child", release.query_encoder(), item_source=release, parent=release)
    assert not (child.path / "item_encoder/model.safetensors").samefile(release.path / "model.safetensors")
    assert load_release(child.path).manifest.item_encoder_digest == release.manifest.item_encoder_digest


def test_query_only_release_searches_with_its_parents_item_settings(bert_folder: Path, tmp_path: Path) -> None:
    parent = save_release(tmp_path / "parent", make(bert_folder, item_template="{title} {brand}", max_item_tokens=20))
    child = save_release(tmp_path / "child", make(bert_folder), item_source=parent, parent=parent)
    assert (child.manifest.item_template, child.manifest.max_item_tokens) == ("{title} {brand}", 20)
    assert child.item_encoder().spec.item_template == "{title} {brand}"


def test_encoders_that_do_not_fit_together(bert_folder: Path, release: Release, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not fit together"):
        save_release(tmp_path / "x", make(bert_folder, dimension=16), item_source=release)
    with pytest.raises(InputError, match="do not fit together"):
        save_release(tmp_path / "x", make(bert_folder), item_encoder=make(bert_folder, pooling="cls"))
    with pytest.raises(ValueError, match="not both"):
        save_release(tmp_path / "x", make(bert_folder), item_encoder=make(bert_folder), item_source=release)
    assert list(tmp_path.iterdir()) == [release.path]


def test_gathered_weights_replace_the_modules_own(bert_folder: Path, tmp_path: Path, texts, assert_close) -> None:
    trained = shifted(make(bert_folder))
    state = {name: value.bfloat16() for name, value in trained.state_dict().items()}
    encoder = make(bert_folder)
    before = encoder.encode(texts, "query")
    release = save_release(tmp_path / "release", encoder, state_dict=state)
    trained.load_state_dict({name: value.float() for name, value in state.items()})
    assert_close(release.query_encoder().encode(texts, "query"), trained.encode(texts, "query"), 1e-6)
    assert_close(SentenceTransformer(str(release.path), device="cpu").encode(texts), trained.encode(texts, "query"))
    assert_close(encoder.encode(texts, "query"), before, 0)
    assert json.loads((release.path / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("name", ["bert_folder", "qwen_folder"])
def test_adapters_are_merged(name: str, gathered: bool, tmp_path: Path, request, texts, assert_close) -> None:
    folder = request.getfixturevalue(name)
    encoder = make(folder, lora=LoraConfig(rank=3, alpha=5), max_query_tokens=50, max_item_tokens=50)
    torch.manual_seed(3)
    with torch.no_grad():
        for key, value in encoder.named_parameters():
            if ".lora_" in key:
                value.normal_(std=0.2)
    state = dict(encoder.state_dict()) if gathered else None
    trained = encoder.encode(texts, "query")
    assert not np.allclose(trained, make(folder).encode(texts, "query"), atol=1e-2)
    release = save_release(tmp_path / "release", encoder, state_dict=state)
    assert_close(release.query_encoder().encode(texts, "query"), trained)
    assert_close(SentenceTransformer(str(release.path), device="cpu").encode(texts), trained)
    assert_close(encoder.encode(texts, "query"), trained, 0)
    assert not list(release.path.glob("adapter*"))


def test_a_release_can_be_trained_on_with_adapters(release: Release) -> None:
    config = EncoderConfig(lora=LoraConfig(rank=2), tokens_per_batch=77, dimension=8, item_template="{brand}")
    encoder = release.query_encoder(config=config)
    assert any(".lora_" in key for key, _ in encoder.named_parameters())
    assert encoder.tokens_per_batch == 77
    assert encoder.spec == release.query_encoder().spec, "what belongs to the release stays"
    assert release.query_encoder(precision="bf16", config=config).precision == "bf16"


def test_incomplete_weights_write_nothing(release: Release, bert: Encoder) -> None:
    state = dict(bert.state_dict())
    state.pop("backbone.embeddings.word_embeddings.weight")
    for name in ("new", "release"):
        with pytest.raises(InputError, match=r"incomplete: backbone\.embeddings\.word_embeddings\.weight"):
            save_release(release.path.parent / name, bert, state_dict=state)
    assert list(release.path.parent.iterdir()) == [release.path]
    assert load_release(release.path) == release


def test_a_release_may_be_replaced_but_nothing_else(release: Release, bert: Encoder, tmp_path: Path) -> None:
    replaced = save_release(release.path, shifted(bert))
    assert replaced.manifest.digest != release.manifest.digest
    assert load_release(release.path) == replaced
    mine = tmp_path / "mine"
    mine.mkdir()
    assert save_release(mine, bert).path == mine, "an empty folder is no loss"
    (mine / "release.json").unlink()
    with pytest.raises(InputError, match="is not a release; choose another place"):
        save_release(mine, bert)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a release"):
        save_release(tmp_path / "file", bert)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_changed_files_are_refused(release: Release) -> None:
    weights = release.path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for open_it in (load_release, lambda path: load_encoder(EncoderConfig(model=str(path)))):
        with pytest.raises(InputError, match=r"model\.safetensors was changed"):
            open_it(release.path)


def test_missing_and_foreign_files_are_refused(release: Release) -> None:
    (release.path / ".DS_Store").touch()
    load_release(release.path)
    (release.path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"adapter_config\.json does not belong"):
        load_release(release.path)
    (release.path / "adapter_config.json").unlink()
    (release.path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json is missing"):
        load_release(release.path)


@pytest.mark.parametrize(
    "changes",
    [
        {"query_template": "buy {text}"},
        {"item_template": "{brand}"},
        {"pooling": "cls"},
        {"dimension": 16},
        {"max_query_tokens": 5},
        {"metric": "dot"},
        {"item_encoder_digest": "0" * 64},
        {"digest": "0" * 64},
    ],
)
def test_changed_settings_are_refused(release: Release, changes: dict) -> None:
    edit(release.path / "release.json", **changes)
    with pytest.raises(InputError, match=r"release\.json: a setting was changed"):
        load_release(release.path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "not JSON"),
        ("[]", "expected an object"),
        ("{}", "format None"),
        ('{"format": 1}', "digest is missing"),
    ],
)
def test_malformed_manifest(release: Release, content: str, problem: str) -> None:
    (release.path / "release.json").write_text(content)
    with pytest.raises(InputError, match=problem):
        load_release(release.path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"dimension": "16"}, "dimension is '16'"), ({"pooling": "max"}, "pooling 'max'"), ({"format": 2}, "format 2")],
)
def test_manifest_of_the_wrong_kind(release: Release, changes: dict, problem: str) -> None:
    edit(release.path / "release.json", **changes)
    with pytest.raises(InputError, match=problem):
        load_release(release.path)


def test_not_a_release(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="not a release"):
            load_release(path)


def test_collection_name(release: Release) -> None:
    name = collection_name("shop", release.manifest.item_encoder_digest)
    assert name == f"shop_{release.manifest.item_encoder_digest[:16]}"
    assert replace(release.manifest, collection=name).digest == release.manifest.digest
