"""No setting of an encoder vanishes behind a release: it holds, or it is said that the release has another."""

from pathlib import Path

import numpy as np
import pytest

from taoemb.config import EncoderConfig
from taoemb.encoder.bulk import bulk_embedder
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import RUNTIME, Release, save_release
from taoemb.encoder.remarks import OWN, Overridden, overridden, override_line, warn_of
from taoemb.errors import InputError

NO_PART_OF_AN_ENCODER = {"model", "matryoshka"}  # what it is made from; and what SFT trains beside it


@pytest.fixture(scope="module")
def release(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    config = EncoderConfig(model=str(bert_folder), query_template="query: {text}", max_item_tokens=20, dimension=16)
    alarms = {"alarms": ["step 5: no group had different rewards for 5 steps"]}
    return save_release(tmp_path_factory.mktemp("made") / "release", load_encoder(config), training=alarms)


def test_every_setting_holds_or_is_told_of():
    assert set(EncoderConfig.model_fields) == {*RUNTIME, *OWN} | NO_PART_OF_AN_ENCODER


@pytest.mark.parametrize("which", ["query_encoder", "item_encoder"])
def test_runtime_settings_hold_for_a_release(which: str, release: Release, texts: list[str]) -> None:
    asked = EncoderConfig(
        attention="eager",
        compile=True,
        tokens_per_batch=128,
        precision="bf16",
        bulk_backend="torch",
        lora={"rank": 2, "alpha": 4},
    )
    encoder = getattr(release, which)(config=asked)
    assert encoder.backbone.config._attn_implementation == "eager"
    assert encoder.compiled
    assert encoder.tokens_per_batch == 128
    assert encoder.precision == "bf16"
    assert encoder.bulk_backend == "torch"
    assert encoder.lora == asked.lora
    assert any("lora_" in name for name, _ in encoder.named_parameters())


def test_compiled_layers_are_not_traced_for_openvino(release: Release, texts: list[str]) -> None:
    pytest.importorskip("openvino")
    encoder = release.item_encoder(config=EncoderConfig(bulk_backend="openvino"))
    encoder.compiled = True
    with pytest.raises(InputError, match=r"bulk_backend openvino: not with encoder\.compile"):
        bulk_embedder(encoder, "item", 10)
    encoder.bulk_backend = "auto"
    vectors = bulk_embedder(encoder, "item", 1_000_000)(texts, None)  # torch
    np.testing.assert_array_equal(vectors, encoder.encode(texts, "item"))


def test_what_a_release_overrides_is_listed(release: Release) -> None:
    asked = EncoderConfig(
        model="another/model",
        pooling="cls",
        query_template="{text}",
        item_template="{title}",
        max_query_tokens=8,
        max_item_tokens=30,
        dimension=8,
        precision="bf16",
    )
    found = {one.key: (one.asked, one.has) for one in overridden(release, asked)}
    assert found == {
        "model": ("another/model", "tiny-bert"),
        "pooling": ("cls", "mean"),
        "query_template": ("{text}", "query: {text}"),
        "item_template": ("{title}", release.manifest.item_template),
        "max_query_tokens": (8, 64),
        "max_item_tokens": (30, 20),
        "dimension": (8, 16),
    }
    line = override_line(release, asked)
    assert "\n" not in line
    assert "encoder.dimension is 16 in it, not 8" in line


def test_settings_that_agree_or_are_left_open_are_not_listed(release: Release, bert_folder: Path) -> None:
    agreeing = EncoderConfig(
        model=str(bert_folder), pooling="mean", query_template="query: {text}", max_item_tokens=20, dimension=16
    )
    for asked in (EncoderConfig(), agreeing, EncoderConfig(model=str(release.path)), EncoderConfig(model="tiny-bert")):
        assert overridden(release, asked) == []
        assert override_line(release, asked) == ""
    assert overridden(release, EncoderConfig(dimension=8)) == [Overridden("dimension", 8, 16)]


def test_warnings_name_the_release_its_overrides_and_its_alarms(release: Release, capsys) -> None:
    warn_of(release, EncoderConfig(max_item_tokens=30))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"warning: {release.path}: a release keeps")
    assert "encoder.max_item_tokens is 20 in it, not 30" in said[0]
    assert "its training raised an alarm at step 5: no group had different rewards" in said[1]
