"""From a release folder to a model that may serve: loaded, checked against torch, warm."""

import sys
from itertools import cycle, islice
from pathlib import Path

import torch

from taoemb.config import EncoderConfig, EncoderServerConfig
from taoemb.encoder.release import load_release
from taoemb.encoder.remarks import warn_of
from taoemb.serving.encoder.backends import check_precision, graph_backend, torch_backend, torch_bf16_backend
from taoemb.serving.encoder.check import CHECK_TEXTS, check_agreement
from taoemb.serving.encoder.model import QueryModel, embed


def load_query_model(path: Path, config: EncoderServerConfig, settings: EncoderConfig | None = None) -> QueryModel:
    """The release in `path` behind the backend of the config; torch uses a GPU when there is one.

    `settings` adds what is no part of a release: attention, remote code and, for torch, compiled layers.
    Raises InputError for a folder that is not a whole release, a precision that the backend or the processor lacks, a
    model that can't be exported, or vectors that differ too much from torch's.
    """
    check_precision(config)
    release = load_release(path)
    settings = settings or EncoderConfig()
    warn_of(release, settings)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    gpu = config.backend == "torch" and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    encoder = release.query_encoder(device, "fp32", config=_for_serving(settings, config))
    backend = torch_backend(encoder)
    cosine = 1.0
    if (config.backend, config.precision) != ("torch", "fp32"):
        reference_ND = embed(encoder, backend, CHECK_TEXTS).vectors_ND
        if config.backend == "torch":
            backend = torch_bf16_backend(encoder, device)
        else:
            backend = graph_backend(encoder, release.manifest.digest, config)
            encoder.backbone.to("meta")  # frees the weights: only the tokenizer is needed now
        vectors_ND = embed(encoder, backend, CHECK_TEXTS).vectors_ND
        cosine = check_agreement(reference_ND, vectors_ND, config.min_cosine, f"{config.backend} {config.precision}")
    model = QueryModel(release.manifest.digest, release.manifest.dimension, encoder, backend, cosine)
    for texts in (1, 2, config.batch_texts):
        model.embed(list(islice(cycle(CHECK_TEXTS), texts)))
    return model


def _for_serving(settings: EncoderConfig, config: EncoderServerConfig) -> EncoderConfig:
    """Without what belongs to training (adapters) and what can't be exported (compiled layers)."""
    compiled = settings.compile and config.backend == "torch"
    if settings.compile and not compiled:
        print(f"warning: encoder.compile: only for encoder_server.backend torch, not {config.backend}", file=sys.stderr)
    return settings.model_copy(update={"lora": None, "compile": compiled})
