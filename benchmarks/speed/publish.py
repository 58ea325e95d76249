"""Publishing a catalogue to Milvus Lite: items a second, time to an answering alias, and memory by size.

    python -m benchmarks.speed.publish [--quick]        # a million items: benchmarks.speed.publish_million

Each run is a process of its own. "real" embeds titles with the packaged encoder. "tiny" is one layer of random weights,
so that the store and the pipeline are measured and not the model. Milvus Lite runs inside the publishing process: what
the pipeline needs by itself is measured in another run in which nothing is stored.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.record import Aim, Record, Table, options

BASE = 20_000
SIZES = {True: (2000, 4000), False: (20_000, 50_000)}  # quick, or not
MEMORY_TRIED = (
    "Done: the catalogue is a mapped file, ids are told apart by eight bytes each, what decoding took is given back. "
    "Hashes take eight bytes an item; much of the rest are buffers of 65,536 rows, which a small catalogue never fills."
)
FLAT_MB = 64  # growth of the pipeline's memory, from the least to the largest catalogue, that counts as flat


def make_catalogue(folder: Path, items: int) -> Path:
    """Items of the generated shop; beyond 20,000 they repeat with other ids and a number behind the title."""
    from taoemb.data.files import write_table
    from taoemb.data.shop_items import make_items
    from taoemb.data.taxonomy import load_shop

    first = make_items(load_shop(), min(items, BASE), np.random.default_rng([7, 0]))
    parts = (_copy(first, number) for number in range(-(-items // BASE)))
    folder.mkdir(parents=True)
    batches = (batch for part in parts for batch in part.to_batches())
    write_table(folder / "items.parquet", batches, first.schema)
    return folder


def _copy(table: pa.Table, number: int) -> pa.Table:
    for name, mark in (("item_id", f"-{number}"), ("title", f" {number}")):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pc.binary_join_element_wise(table.column(at), mark, ""))
    return table


def make_release(folder: Path, kind: str) -> float:
    """Save the real or the tiny encoder as a release; seconds."""
    from taoemb.config import EncoderConfig
    from taoemb.encoder.loading import load_encoder
    from taoemb.encoder.release import save_release

    encoder = load_encoder(EncoderConfig(item_template="{title}"))
    if kind == "tiny":
        from transformers import BertConfig, BertModel

        width = encoder.spec.dimension
        shape = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 6, "intermediate_size": width}
        encoder.backbone = BertModel(BertConfig(vocab_size=len(encoder.tokenizer), **shape)).eval()
    start = time.perf_counter()
    save_release(folder, encoder)
    return time.perf_counter() - start


class Memory:
    """Greatest anonymous memory (MB) of this process since it was made: mapped files don't count."""

    def __init__(self) -> None:
        self.first = self.most = _anonymous_mb()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.most = max(self.most, _anonymous_mb())

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._watcher.join()


def _anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def publish_once(release: Path, data: Path, store: Path, bulk: str) -> dict[str, float]:
    """From a release to the answer of its alias."""
    from taoemb.config import EncoderConfig, MilvusConfig
    from taoemb.encoder.release import load_release
    from taoemb.retrieval.milvus import MilvusStore
    from taoemb.retrieval.publish import publish

    backend, precision = bulk.split("-")
    encoder = EncoderConfig.model_validate({"bulk_backend": backend, "precision": precision})
    config = MilvusConfig(uri=str(store))
    memory, start = Memory(), time.perf_counter()
    opened = load_release(release)
    published = publish(opened, data, config, encoder=encoder)
    filled = time.perf_counter() - start
    vectors_QD = opened.query_encoder().encode(["red running shoes"], "query")
    with MilvusStore(config) as open_store:
        hits = open_store.search(vectors_QD, opened.manifest.digest, 10, collection=config.alias)
    assert len(hits[0]) == 10
    answered = time.perf_counter() - start
    memory.stop()
    found = {"items": published.items, "publish": filled, "answered": answered, "recall": published.recall or 0.0}
    return {**found, "before_mb": memory.first, "most_mb": memory.most}


def pipeline_once(release: Path, data: Path) -> dict[str, float]:
    """All that publish does but storing: read, hash, embed, make rows."""
    from taoemb.config import EncoderConfig
    from taoemb.encoder.release import load_release
    from taoemb.retrieval.fill import embed, item_embedder
    from taoemb.retrieval.rows import open_rows, spans, with_vectors

    memory, start = Memory(), time.perf_counter()
    opened = load_release(release)
    rows = open_rows(data, opened.manifest.item_template)
    hashing = time.perf_counter()
    hashes = rows.hashes()
    hashed = time.perf_counter() - hashing
    embedder = item_embedder(opened, EncoderConfig(precision="auto"), len(rows))
    parts = embed(rows, spans(0, len(rows), 1000), embedder, np.ones(len(hashes), dtype=bool))
    deque((with_vectors(entities, vectors_ND) for entities, vectors_ND in parts), maxlen=0)
    seconds = time.perf_counter() - start
    memory.stop()
    return {
        "items": len(rows),
        "publish": seconds,
        "hashed": hashed,
        "before_mb": memory.first,
        "most_mb": memory.most,
    }


def in_process(*words: str) -> dict[str, float]:
    """One run in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed.publish", "--one", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ})
    return json.loads(done.stdout.splitlines()[-1])


def one(what: str, *words: str) -> None:
    """The child's side of `in_process`."""
    from taoemb.config import let_threads_sleep

    let_threads_sleep()
    if what == "publish":
        release, data, store, bulk = words
        found = publish_once(Path(release), Path(data), Path(store), bulk)
    else:
        found = pipeline_once(*map(Path, words))
    print(json.dumps(found))


def main(quick: bool) -> None:
    """Measure, print, and keep."""
    record = Record(__file__, "Publishing to Milvus Lite")
    sizes = SIZES[quick]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        saved = {kind: make_release(folder / kind, kind) for kind in ("real", "tiny")}
        data = {size: str(make_catalogue(folder / f"{size}", size)) for size in sizes}
        runs = {}
        ways = [("real", sizes[0], "auto-auto"), *(("tiny", size, "auto-auto") for size in sizes)]
        for kind, size, bulk in (("real", sizes[0], "torch-fp32"), *ways):
            place = str(folder / f"{kind}-{size}-{bulk}.db")
            runs[kind, size, bulk] = in_process("publish", str(folder / kind), data[size], place, bulk)
            print(kind, size, bulk, runs[kind, size, bulk], file=sys.stderr)
        bare = {size: in_process("pipeline", str(folder / "tiny"), data[size]) for size in sizes}
    record.tables = [speed_table(runs, saved), memory_table(runs, bare)]
    record.aims = [memory_aim(bare)]
    record.notes = [
        "Before bulk embedding took OpenVINO and bf16, publish always embedded with torch in fp32: the first row.",
        "Milvus Lite runs inside the publishing process, so its index and its write-ahead memory are in the first "
        "column of memory and not in the second. Memory is anonymous memory; the catalogue is a mapped file.",
        "The catalogue was read into memory whole before; it is a mapped file now. One JSON encoder hashes all rows.",
    ]
    record.finish(save=not quick)


def speed_table(runs: dict[tuple[str, int, str], dict[str, float]], saved: dict[str, float]) -> Table:
    """How long each publish took."""
    rows = []
    for (kind, size, bulk), run in runs.items():
        way = {"torch-fp32": "torch fp32", "auto-auto": "auto, best precision"}[bulk]
        answer = saved[kind] + run["answered"]
        rows.append([kind, way, f"{size:,}", f"{size / run['publish']:,.0f}", f"{answer:.1f}", f"{run['recall']:.3f}"])
    head = ["encoder", "bulk backend", "items", "items/s", "s to an answering alias", "spot recall@10"]
    text = (
        "From saving a trained encoder as a release to the first answer through the alias: loading, embedding, "
        "storing, indexing, checks. tiny: one layer of random weights, which shows the store and the pipeline."
    )
    return Table("Publishing", head, rows, text)


def memory_table(runs: dict[tuple[str, int, str], dict[str, float]], bare: dict[int, dict[str, float]]) -> Table:
    """Greatest memory above what the process had before, with the store and without."""
    rows = []
    for size, run in bare.items():
        whole = runs["tiny", size, "auto-auto"]
        cells = [f"{whole['most_mb'] - whole['before_mb']:,.0f}", f"{run['most_mb'] - run['before_mb']:,.0f}"]
        speed = [f"{size / run['publish']:,.0f}", f"{run['hashed'] / size * 1e6:.1f}"]
        rows.append([f"{size:,}", *cells, *speed])
    head = ["items", "with Milvus Lite, MB", "pipeline alone, MB", "pipeline alone, items/s", "hashing, µs an item"]
    return Table("Memory of the publishing process by catalogue, tiny encoder", head, rows)


def memory_aim(bare: dict[int, dict[str, float]]) -> Aim:
    """Whether our own memory is flat."""
    sizes = sorted(bare)
    growth = bare[sizes[-1]]["most_mb"] - bare[sizes[0]]["most_mb"]
    aim = f"publish's own memory grows by at most {FLAT_MB} MB from {sizes[0]:,} to {sizes[-1]:,} items"
    return Aim(aim, f"{growth:+,.0f} MB", growth <= FLAT_MB, "" if growth <= FLAT_MB else MEMORY_TRIED)


if __name__ == "__main__":
    if "--one" in sys.argv:
        one(*sys.argv[2:])
    else:
        main(options(__doc__).parse_args().quick)
