"""A process that embeds texts with one contender, ours or a rival's; run by the interpreter of its environment.

It says first {"seconds": S}, what loading took. It reads JSON lines {"texts": FILE, "batch": N or null, "save": FILE or
null} and answers each with {"seconds": S}: from a list of texts to float32 vectors in memory, tokenising included.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Embed = Callable[[list[str], int | None], np.ndarray]


def ours(model: str, backend: str, precision: str, threads: int) -> Embed:
    """Bulk embedding as publish and training do it."""
    from taoemb.config import EncoderConfig, let_threads_sleep
    from taoemb.encoder.bulk import bulk_embedder
    from taoemb.encoder.loading import load_encoder

    let_threads_sleep()
    config = EncoderConfig.model_validate({"model": model, "precision": precision, "bulk_backend": backend})
    embed = bulk_embedder(load_encoder(config), "item", 1_000_000)
    return lambda texts, batch: embed(texts, None)


def sentence_transformer(model: str, backend: str, precision: str, threads: int) -> Embed:
    """SentenceTransformer.encode, which sorts by length too."""
    import torch
    from sentence_transformers import SentenceTransformer

    if backend == "torch":
        options: dict[str, Any] = {"dtype": {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]}
    else:
        hint = {"fp32": "f32", "bf16": "bf16"}[precision]
        options = {"ov_config": {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(threads)}}
    encoder = SentenceTransformer(model, backend=backend, device="cpu", model_kwargs=options)
    return lambda texts, batch: encoder.encode(texts, batch_size=batch or 32, normalize_embeddings=True)


def infinity(model: str, backend: str, precision: str, threads: int) -> Embed:
    """infinity-emb's engine in this process, without its HTTP server."""
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    loop = asyncio.new_event_loop()
    engines: dict[int, AsyncEmbeddingEngine] = {}

    def engine(batch: int) -> AsyncEmbeddingEngine:
        if batch not in engines:
            settings = EngineArgs(
                model_name_or_path=model,
                engine=backend,
                device="cpu",
                dtype={"fp32": "float32", "bf16": "bfloat16"}[precision],
                bettertransformer=False,
                model_warmup=False,
                batch_size=batch,
            )
            engines[batch] = AsyncEmbeddingEngine.from_args(settings)
            loop.run_until_complete(engines[batch].astart())
        return engines[batch]

    def embed(texts: list[str], batch: int | None) -> np.ndarray:
        vectors, _ = loop.run_until_complete(engine(batch or 32).embed(sentences=texts))
        return np.asarray(vectors, dtype=np.float32)

    return embed


CONTENDERS = {"ours": ours, "sentence-transformers": sentence_transformer, "infinity": infinity}


def main(who: str, model: str, backend: str, precision: str, threads: int) -> None:
    """Answer until standard input ends."""
    import torch

    answers, sys.stdout = sys.stdout, sys.stderr  # whatever prints goes elsewhere
    torch.set_num_threads(threads)
    start = time.perf_counter()
    embed = CONTENDERS[who](model, backend, precision, threads)
    print(json.dumps({"seconds": time.perf_counter() - start}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        texts = json.loads(Path(asked["texts"]).read_text(encoding="utf-8"))
        start = time.perf_counter()
        vectors_ND = embed(texts, asked["batch"])
        seconds = time.perf_counter() - start
        if asked["save"]:
            np.save(asked["save"], vectors_ND)
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]))
