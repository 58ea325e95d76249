"""A tiny real encoder (one BERT layer, its own vocabulary) for tests that publish for real."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from taoemb.cli.main import main
from taoemb.config import EncoderConfig, MilvusConfig
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import Release, save_release
from tests.retrieval.tiny_shop import COLOURS, KINDS, STUFF

TEMPLATE = "{title}[, {brand}]"


def make_model(folder: Path, seed: int) -> Path:
    """A Hugging Face folder with a random BERT that reads whole words and digits."""
    folder.mkdir(parents=True)
    digits = [f"{hashes}{digit}" for digit in range(10) for hashes in ("", "##")]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", "acme", *KINDS, *COLOURS, *STUFF, *digits]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(
        BertConfig(vocab_size=len(words), max_position_embeddings=64, initializer_range=0.5, **sizes)
    ).save_pretrained(folder)
    return folder


@dataclasses.dataclass(frozen=True)
class Releases:
    """`base`; `query_only`, trained from it with its items frozen; `other`, with items of its own."""

    base: Release
    query_only: Release
    other: Release


def make_releases(root: Path) -> Releases:
    """Save the three releases under `root`."""
    encoders = [
        load_encoder(
            EncoderConfig(model=str(make_model(root / f"model{seed}", seed)), pooling="mean", item_template=TEMPLATE)
        )
        for seed in range(3)
    ]
    base = save_release(root / "base", encoders[0])
    query_only = save_release(root / "query-only", encoders[1], item_source=base, parent=base)
    return Releases(base, query_only, save_release(root / "other", encoders[2], parent=base))


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    return make_releases(tmp_path_factory.mktemp("releases"))


@pytest.fixture
def config(tmp_path: Path) -> MilvusConfig:
    """A Milvus Lite file of this test's own."""
    return MilvusConfig(uri=str(tmp_path / "milvus.db"), batch=50, spot_queries=10)


@dataclasses.dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in this process, for programs (--json)."""

    def call(*args: object) -> Done:
        with pytest.raises(SystemExit) as done:
            main([*map(str, args), "--json"])
        out, err = capsys.readouterr()
        return Done(int(done.value.code or 0), out, err)

    return call
