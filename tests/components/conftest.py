"""A small generated shop, and artefacts that stand where a pipeline would put them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from taoemb.data.synth import synthesise

Artefact = Callable[..., Any]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with logged queries."""
    folder = tmp_path_factory.mktemp("shop") / "shop"
    synthesise(folder, 300, 60, seed=1)
    return folder


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    """Make an artefact of a kind (default: dsl.Artifact) below the test's folder."""

    def make(name: str, kind: type = dsl.Artifact) -> Any:
        return kind(name=name, uri=str(tmp_path / name), metadata={})

    return make
