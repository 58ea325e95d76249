"""What a query costs in each backend of `taoemb serve encoder`, and how near its vectors are to torch's.

    python benchmarks/speed/encoder_backends.py [RELEASE]

Without a release it takes the packaged default encoder. All backends run on one thread and take turns in each round;
the table shows medians of processor time over the rounds, which a busy machine blurs less than time by the clock.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from taoemb.config import EncoderConfig, EncoderServerConfig, let_threads_sleep
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import save_release
from taoemb.errors import InputError
from taoemb.serving.encoder.load import load_query_model
from taoemb.serving.encoder.model import QueryModel

BACKENDS = [
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
]
ROUNDS = 8
PASS = 64
WORDS = [
    "red",
    "blue",
    "oak",
    "running",
    "shoes",
    "for",
    "men",
    "with",
    "a",
    "case",
    "black",
    "hours",
    "lamp",
    "garden",
    "hose",
    "what",
    "is",
    "good",
    "at",
    "night",
    "without",
    "arms",
    "usb",
    "c",
    "cable",
    "wireless",
    "sofa",
    "rug",
    "42",
    "waterproof",
]


def queries(count: int) -> list[str]:
    """Of lengths like those of a shop: most of three or four words, some long."""
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=max(1, int(rng.lognormvariate(1.2, 0.6))))) for _ in range(count)]


def load(release: Path, graphs: Path) -> dict[str, QueryModel]:
    """Every backend that this processor can run."""
    models = {}
    for backend, precision in BACKENDS:
        tree = {"backend": backend, "precision": precision, "threads": 1, "graphs": graphs}
        try:
            models[f"{backend} {precision}"] = load_query_model(release, EncoderServerConfig.model_validate(tree))
        except InputError as error:
            print(f"{backend} {precision}: {error}")
    return models


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main(release: Path | None) -> None:
    """Measure and print a Markdown table."""
    let_threads_sleep()
    texts = queries(PASS * ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        if release is None:
            release = Path(folder) / "release"
            save_release(release, load_encoder(EncoderConfig()))
        models = load(release, Path(folder) / "graphs")
    lone: dict[str, list[float]] = {name: [] for name in models}
    shared: dict[str, list[float]] = {name: [] for name in models}
    for start in range(0, len(texts), PASS):
        for name, model in models.items():
            part = texts[start : start + PASS]
            lone[name].extend(seconds(lambda text=text, model=model: model.embed([text])) for text in part[:4])
            shared[name].append(seconds(lambda part=part, model=model: model.embed(part)))
    first = statistics.median(shared["torch fp32"])
    print("| backend | lowest cosine | one query, ms | 64 queries, ms | speed at 64 |")
    print("| --- | --- | --- | --- | --- |")
    for name, model in models.items():
        one, many = statistics.median(lone[name]), statistics.median(shared[name])
        print(f"| {name} | {model.min_cosine:.4f} | {one * 1e3:.1f} | {many * 1e3:.0f} | {first / many:.1f}× |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
