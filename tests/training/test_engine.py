"""An engine that is closed must leave nothing behind, and refuse what can't work before anything is built."""

import gc
import multiprocessing
import weakref
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from taoemb.config import EncoderConfig, EngineConfig, OptimConfig
from taoemb.encoder.loading import load_encoder
from taoemb.errors import InputError
from taoemb.training.distributed import Ranks, joined_ranks
from taoemb.training.engine import Engine


def _left_after_closing(model: str) -> bool:
    with joined_ranks() as ranks:
        encoder = load_encoder(EncoderConfig(model=model))
        engine = Engine(encoder, EngineConfig(zero_stage=1, precision="bf16"), OptimConfig(), 10, ranks)
        engine.backward(engine.embed(encoder.tokenize(["red sofa", "blue lamp"], "item"))[:, 0].sum())
        engine.step(0)
        states = weakref.ref(engine._engine.optimizer)
        engine.close()
        del engine, encoder
        gc.collect()
        return states() is not None


@pytest.mark.slow
def test_closing_lets_go_of_the_optimiser_states(model: Path):
    # In a process of its own: DeepSpeed joins a process group once in its life.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        assert not process.submit(_left_after_closing, str(model)).result()


def test_compiled_layers_and_zero_3_are_refused(model: Path):
    encoder = load_encoder(EncoderConfig(model=str(model), compile=True))
    assert encoder.compiled
    with pytest.raises(InputError, match="zero_stage 3"):
        Engine(encoder, EngineConfig(zero_stage=3), OptimConfig(), 10, Ranks(0, 1, torch.device("cpu")))
